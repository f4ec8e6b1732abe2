"""The head of an algorithm of this package: whatever its `adapt` and `predict` do."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from metavision import trees
from metavision.algorithms.base import Algorithm
from metavision.classify.heads.base import Head
from metavision.classify.holding_out import held_out
from metavision.engine.embedding import TOGETHER, TOGETHER_ON_GPU, Embedded, embeddable
from metavision.errors import InputError
from metavision.seeds import seed
from metavision.types import Examples, Inputs, Meta, P

CHOICE_FOLDS = 2  # of a cross-validation for each candidate, so that one costs as much as a fit


class Learned(NamedTuple):
    """What an algorithm's `adapt` returned, and what answering takes besides."""

    task: Any
    buffers: P  # the statistics that images are normalised by, and what was chosen
    way: int
    choice: str = ""  # its name, where something was chosen on the support


@dataclass(frozen=True, eq=False)
class Own(Head):
    """An algorithm with its learned weights; queries are answered one by one.

    An algorithm that leaves its backbone alone works on features; another sees images. Where it was trained with the
    moments of whatever it is given (`norm=batch`), images to be classified are normalised by those of the support.

    Args:
        algorithm: with its test-time settings.
        meta: its weights, and statistics where its policy keeps any.
        chooses: whether what the algorithm chooses on validation is to be chosen at every fit, on the support: the most
            right answers of a cross-validation, of equals the first. Where all classes have one image, the first.
    """

    name: ClassVar[str] = "own"
    algorithm: Algorithm
    meta: Meta
    chooses: bool = False

    @classmethod
    def of(cls, algorithm: Algorithm, meta: Meta, *, chooses: bool = False) -> "Own":
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
            return cls(algorithm.normalised("support"), meta.without_statistics(), chooses)
        if not embeddable(algorithm):
            return cls(algorithm, meta, chooses)
        rest = ({name: t for name, t in part.items() if not name.startswith("backbone.")} for part in meta)
        return cls(replace(algorithm, backbone=Embedded(algorithm.backbone)), Meta(*rest), chooses)

    def on(self, device: torch.device) -> "Own":
        """The same with its weights on a device, where it passes images through them."""
        return replace(self, meta=Meta(*(trees.to(part, device) for part in self.meta))) if self.sees else self

    @property
    def sees(self) -> bool:  # type: ignore[override]
        return not isinstance(self.algorithm.backbone, Embedded)

    def fit(self, x: Tensor, y: Tensor, k: int) -> Learned:
        """By draws that are the same at every call, where an algorithm draws at all."""
        choice, meta = self._chosen(x, y, k)
        algorithm, support = self._for(k), trees.to(Examples(x, y), self._device)
        with torch.random.fork_rng(devices=trees.cuda(support)), torch.enable_grad():
            torch.manual_seed(seed("classifier"))
            task = algorithm.adapt(meta, support)
            buffers = algorithm.for_queries(meta, task, support).buffers
        return pytree.tree_map_only(Tensor, Tensor.detach, Learned(task, buffers, k, choice))

    def _chosen(self, x: Tensor, y: Tensor, k: int) -> tuple[str, Meta]:
        choices = self.algorithm.choices(self.meta) if self.chooses else None
        if choices is None:
            return "", self.meta
        right = {}
        for name, meta in choices.options.items():
            out = held_out(replace(self, meta=meta, chooses=False), x, y, k, CHOICE_FOLDS)
            right[name] = 0 if out is None else int((out.logits.argmax(1) == y[out.rows]).sum())
        best = max(right, key=lambda name: right[name])
        return best, choices.options[best]

    def logits(self, task: Learned, x: Tensor) -> Tensor:
        together = TOGETHER if self._device.type == "cpu" else TOGETHER_ON_GPU
        with torch.no_grad():
            parts = [self.predicted(task, some.to(self._device)) for some in x.split(together)]
        return torch.cat(parts).cpu().to(torch.float64)

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
