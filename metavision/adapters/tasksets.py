"""learn2learn's task sets as a data set: `data=learn2learn`."""

import importlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Any, ClassVar

import numpy as np
import torch

from metavision.adapters.learn2learn import learn2learn
from metavision.config import locate
from metavision.data.source import pick
from metavision.data.spec import EpisodeSpec
from metavision.errors import InputError
from metavision.seeds import seed
from metavision.types import Episode, Examples

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class TaskSets:
    """Three task sets, for training, validation and test, made by a function.

    What they sample must hold `shot + query` images of each of `way` classes. Their images are taken as they are: a
    task set scales and augments for itself. Whether classes are new can't be known.

    Args:
        make: the path of the function, such as `metavision.adapters.tasksets.benchmark`.
        options: its arguments.
    """

    make: str
    options: Mapping[str, Any] = field(default_factory=dict)

    name: ClassVar[str] = "learn2learn"

    @cached_property
    def sets(self) -> dict[str, Any]:
        learn2learn()
        try:
            made = locate(self.make)
        except (ImportError, AttributeError, ValueError) as error:
            raise InputError(f"data.make is {self.make}, which can't be imported: {error}") from error
        try:
            sets = dict(zip(SPLITS, made(**self.options), strict=True))
        except (TypeError, ValueError) as error:
            raise InputError(f"data.make={self.make} makes no three task sets of data.options: {error}") from error
        except OSError as error:  # a download, too
            raise InputError(f"data.make={self.make} could not get its data: {error}") from error
        if any(getattr(tasks, "num_tasks", -1) != -1 for tasks in sets.values()):
            raise InputError("a task set that keeps its first tasks makes no fixed episodes; num_tasks must be -1")
        return sets

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W), of the first image of the first training task."""
        x, _ = sampled(self.sets["train"], 0)
        return tuple(x.shape[1:])

    def source(self, split: str) -> "TaskSet":
        return TaskSet(split, pick(self.sets, split, self.name), f"{self.make} {sorted(self.options.items())}")


@dataclass(frozen=True, eq=False)
class TaskSet:
    """A split.

    Args:
        split: train, val or test.
        tasks: what is sampled from.
        about: names what was made, and how.
    """

    split: str
    tasks: Any
    about: str

    name: ClassVar[str] = "learn2learn"
    classes: ClassVar[tuple[str, ...]] = ()
    class_hashes: ClassVar[list[str]] = []
    class_keys: ClassVar[tuple[str, ...]] = ()
    shared: ClassVar[bool] = False

    @cached_property
    def fingerprint(self) -> str:
        """Of what it says it is, and of the pixels of its first task."""
        x, y = sampled(self.tasks, 0)
        content = self.about.encode() + x.numpy().tobytes() + y.numpy().tobytes()
        return blake2b(content, digest_size=8).hexdigest()

    def task(self, spec: EpisodeSpec, key: int, i: int) -> Episode:
        """Of every class the first `shot` images as support, the rest as queries; classes in random order."""
        x, y = sampled(self.tasks, seed("task", key, i))
        classes, label, counts = y.unique(return_inverse=True, return_counts=True)
        if len(classes) != spec.way or (counts != spec.shot + spec.query).any():
            raise InputError(
                f"a task of {self.about} has {sorted(counts.tolist())} images of its classes; episode.way={spec.way}, "
                f"episode.shot={spec.shot} and episode.query={spec.query} need {spec.shot + spec.query} of {spec.way}"
            )
        rows = label.argsort(stable=True).view(spec.way, -1)
        support, query = (part.flatten() for part in (rows[:, : spec.shot], rows[:, spec.shot :]))
        return Episode(Examples(x[support], label[support]), Examples(x[query], label[query]))


def sampled(tasks: Any, at: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A task as a function of a number: learn2learn draws from global generators."""
    kept = random.getstate(), np.random.get_state()  # noqa: NPY002 - theirs, put back
    random.seed(at)
    np.random.seed(at % 2**32)  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):  # of torchvision's augmentation
            torch.manual_seed(at % 2**63)
            x, y = tasks.sample()
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002
    return x.to(torch.get_default_dtype()), y.long()


def benchmark(name: str, root: str, train: Sequence[int], test: Sequence[int]) -> Any:
    """The task sets of a benchmark of learn2learn, which fetches its data itself.

    Args:
        name: such as `cifarfs` or `mini-imagenet`.
        root: the folder in which its data lies.
        train: way, shot and query of training tasks; `test`: those of validation and test.
    """
    benchmarks = importlib.import_module("learn2learn.vision.benchmarks")
    sizes = {
        f"{split}_{what}": value
        for split, (way, shot, query) in (("train", train), ("test", test))
        for what, value in (("ways", way), ("samples", shot + query))
    }
    return benchmarks.get_tasksets(name, root=root, **sizes)
