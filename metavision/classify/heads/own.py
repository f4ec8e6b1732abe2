"""The head of an algorithm of this package: whatever its `adapt` and `predict` do."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from metavision import trees
from metavision.algorithms.base import Algorithm
from metavision.classify.heads.base import Head
from metavision.engine.embedding import Embedded, embeddable
from metavision.errors import InputError
from metavision.seeds import seed
from metavision.types import Examples, Inputs, Meta, P


class Learned(NamedTuple):
    """What an algorithm's `adapt` returned, and what answering takes besides."""

    task: Any
    buffers: P  # the statistics that images are normalised by
    way: int


@dataclass(frozen=True, eq=False)
class Own(Head):
    """An algorithm with its learned weights; queries are answered one by one.

    An algorithm that leaves its backbone alone works on features; another sees images. Where it was trained with the
    moments of whatever it is given (`norm=batch`), images to be classified are normalised by those of the support.

    Args:
        algorithm: with its test-time settings.
        meta: its weights, and statistics where its policy keeps any.
    """

    name: ClassVar[str] = "own"
    algorithm: Algorithm
    meta: Meta

    @classmethod
    def of(cls, algorithm: Algorithm, meta: Meta) -> "Own":
        """The head of an algorithm as it was trained.

        Raises:
            InputError: it needs all images that are asked about at once, or tells no classes apart.
        """
        what = type(algorithm).__name__
        if algorithm.problem.chance is None:
            raise InputError(
                f"{what} was trained to regress numbers; a classifier takes a run that tells classes apart"
            )
        if algorithm.uses_queries:
            raise InputError(
                f"{what} learns from all images that it is asked about together, so it can't answer one by one; "
                "choose head=prototypes, ridge or logistic"
            )
        if algorithm.backbone.norm == "batch":
            return cls(algorithm.normalised("support"), Meta(meta.params, {}))
        if not embeddable(algorithm):
            return cls(algorithm, meta)
        rest = ({name: t for name, t in part.items() if not name.startswith("backbone.")} for part in meta)
        return cls(replace(algorithm, backbone=Embedded(algorithm.backbone)), Meta(*rest))

    @property
    def sees(self) -> bool:  # type: ignore[override]
        return not isinstance(self.algorithm.backbone, Embedded)

    def fit(self, x: Tensor, y: Tensor, k: int) -> Learned:
        """By draws that are the same at every call, where an algorithm draws at all."""
        algorithm, support = self._for(k), trees.to(Examples(x, y), self._device)
        with torch.random.fork_rng(devices=trees.cuda(support)), torch.enable_grad():
            torch.manual_seed(seed("classifier"))
            task = algorithm.adapt(self.meta, support)
            buffers = algorithm.for_queries(self.meta, task, support).buffers
        return pytree.tree_map_only(Tensor, Tensor.detach, Learned(task, buffers, k))

    def logits(self, task: Learned, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.predicted(task, x.to(self._device)).cpu().to(torch.float64)

    def predicted(self, task: Learned, x: Tensor) -> Tensor:
        """Logits (n, k) as the algorithm gives them, which can be differentiated."""
        return self._for(task.way).predict(Meta(self.meta.params, task.buffers), task.task, Inputs(x))

    def settings(self) -> dict[str, Any]:
        return {}

    def check(self, k: int) -> None:
        """Raises InputError unless the algorithm can tell k classes apart."""
        trained = self.algorithm.problem.way
        if k != trained and self._outputs(k) != self._outputs(trained):
            raise InputError(
                f"{type(self.algorithm).__name__} has an output for each of the {trained} classes of its episodes, and "
                f"this support has {k}; choose head=prototypes, ridge or logistic, or a run with episode.way={k}"
            )

    @property
    def _device(self) -> torch.device:
        return next((t.device for t in self.meta.params.values()), torch.device("cpu"))

    def _for(self, k: int) -> Algorithm:
        return replace(self.algorithm, problem=replace(self.algorithm.problem, way=k))  # type: ignore[type-var]

    def _outputs(self, k: int) -> dict[str, torch.Size]:
        return {name: p.shape for name, p in self._for(k).init(torch.Generator()).params.items()}
