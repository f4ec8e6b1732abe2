"""What the engine and its peers are timed on: an algorithm, a network, and tasks of a size."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from metavision.algorithms.base import Algorithm
from metavision.algorithms.maml import MAML
from metavision.algorithms.protonet import ProtoNet
from metavision.backbones.conv4 import Conv4
from metavision.problems.classification import Classification
from metavision.rules.sgd import SGD
from metavision.seeds import generator
from metavision.types import Episode, Examples, Meta

OMNIGLOT, PHOTO = (1, 28, 28), (3, 84, 84)


@dataclass(frozen=True, kw_only=True)
class Work:
    """One kind of task, and what is done with it.

    Args:
        name: of the row.
        method: what is learned.
        shape: (C, H, W) of the images.
        filters: channels of Conv4.
        downsample: how its blocks halve: by `pool`, or `stride`, as in MAML's own network for Omniglot.
        way: classes; likewise `shot` and `query`, images a class.
        steps: of the inner loop.
        lr: of the inner loop.
        meta_batch: tasks of an outer step, as published.
        recompute: `engine.recompute` of ours.
    """

    name: str
    method: Literal["maml", "fomaml", "anil", "protonet"]
    shape: Sequence[int]
    filters: int
    downsample: Literal["stride", "pool"] = "pool"
    way: int = 5
    shot: int = 1
    query: int = 15
    steps: int = 5
    lr: float = 0.1
    meta_batch: int = 4
    recompute: bool | None = None

    @property
    def first_order(self) -> bool:
        return self.method == "fomaml"

    @property
    def head_only(self) -> bool:
        """Whether the inner loop moves the last layer alone."""
        return self.method == "anil"

    def algorithm(self) -> Algorithm:
        """Ours."""
        norm: Literal["batch", "running"] = "running" if self.method == "protonet" else "batch"
        backbone = Conv4(tuple(self.shape), self.filters, norm, self.downsample, average=self.downsample == "stride")
        problem = Classification(self.way)
        if self.method == "protonet":
            return ProtoNet(backbone=backbone, problem=problem)
        return MAML(
            backbone=backbone,
            problem=problem,
            rule=SGD(self.lr),
            steps=self.steps,
            test_steps=self.steps,
            first_order=self.first_order,
            moves="head" if self.head_only else "all",
        )

    def start(self, device: torch.device, dtype: torch.dtype) -> Meta:
        """The weights that all contenders begin with."""
        params, buffers = self.algorithm().init(generator("bench"))
        return Meta({name: p.to(device, dtype) for name, p in params.items()}, buffers)

    def tasks(self, n: int, device: torch.device, dtype: torch.dtype) -> Episode:
        """n tasks whose classes can be told apart: noise around an image of their own."""
        g = generator("bench", self.name)
        means = torch.rand(n, self.way, 1, *self.shape, generator=g)

        def examples(each: int) -> Examples:
            x = means + 0.3 * torch.randn(n, self.way, each, *self.shape, generator=g)
            y = torch.arange(self.way).repeat_interleave(each).repeat(n, 1)
            return Examples(x.flatten(1, 2).to(device, dtype), y.to(device))

        return Episode(examples(self.shot), examples(self.query))

    def tiny(self) -> "Work":
        """The same on the smallest images, with one a class: what warms up a process and leaves its memory alone."""
        return replace(self, shape=(self.shape[0], 16, 16), filters=4, shot=1, query=1)


def _omniglot(
    name: str, method: Literal["maml", "fomaml"], shot: int, downsample: Literal["stride", "pool"] = "pool"
) -> Work:
    """Tasks of Omniglot's size, with as many queries as shots; strides are those of MAML's own network."""
    return Work(
        name=name,
        method=method,
        shape=OMNIGLOT,
        filters=64,
        downsample=downsample,
        shot=shot,
        query=shot,
        lr=0.4,
        meta_batch=32,
    )


def _photo(
    name: str, method: Literal["maml", "fomaml", "anil"], shot: int, steps: int = 5, recompute: bool | None = None
) -> Work:
    """MAML's network for mini-ImageNet."""
    return Work(name=name, method=method, shape=PHOTO, filters=32, shot=shot, steps=steps, lr=0.01, recompute=recompute)


TRAIN = (
    _omniglot("MAML 28 px 5w1s", "maml", 1),
    _omniglot("MAML 28 px 5w5s", "maml", 5),
    _omniglot("MAML 28 px strided 5w1s", "maml", 1, "stride"),
    _omniglot("MAML 28 px strided 5w5s", "maml", 5, "stride"),
    _photo("MAML 84 px 5w1s", "maml", 1),
    _photo("MAML 84 px 5w5s", "maml", 5),
    _photo("MAML 84 px 5w1s 10 steps", "maml", 1, 10),
    _photo("MAML 84 px 10 steps again", "maml", 1, 10, recompute=True),
    _omniglot("FOMAML 28 px 5w1s", "fomaml", 1),
    _omniglot("FOMAML 28 px 5w5s", "fomaml", 5),
    _photo("FOMAML 84 px 5w1s", "fomaml", 1),
    _photo("FOMAML 84 px 5w5s", "fomaml", 5),
    _photo("ANIL 84 px 5w5s", "anil", 5),
    Work(name="ProtoNet 84 px 5w5s", method="protonet", shape=PHOTO, filters=64, shot=5),
    Work(name="ProtoNet 28 px 20w5s", method="protonet", shape=OMNIGLOT, filters=64, way=20, shot=5),
)
ADAPT = (
    _omniglot("MAML 28 px 5w1s", "maml", 1),
    _photo("MAML 84 px 5w1s 10 steps", "maml", 1, 10),
    _photo("MAML 84 px 5w5s 10 steps", "maml", 5, 10),
    _photo("ANIL 84 px 5w5s 10 steps", "anil", 5, 10),
    Work(name="ProtoNet 84 px 5w5s", method="protonet", shape=PHOTO, filters=64, shot=5),
)
