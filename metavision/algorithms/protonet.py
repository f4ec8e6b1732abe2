"""Prototypical networks."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from metavision.algorithms.base import Algorithm
from metavision.errors import InputError
from metavision.functional.distances import cosine, squared_euclidean
from metavision.functional.prototypes import prototypes
from metavision.types import Examples, Inputs, Meta


@dataclass(frozen=True, eq=False, kw_only=True)
class ProtoNet(Algorithm):
    """The nearest class mean in a learned feature space.

    Reference:
        Prototypical Networks for Few-shot Learning (Snell et al., 2017), https://arxiv.org/abs/1703.05175

    Differs from the authors' code in that support and query are normalised apart in training (there in one batch).

    Args:
        metric: `euclidean`: minus the squared distance; or `cosine`, times a scale.
        scale: of the cosine, which alone could not make a class nearly certain.
    """

    metric: Literal["euclidean", "cosine"] = "euclidean"
    scale: float = 10.0

    frozen: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise InputError(f"algo.scale is {self.scale}; it must be above 0")

    def adapt(self, meta: Meta, support: Examples, unlabelled: Inputs | None = None) -> Tensor:  # noqa: ARG002
        """Prototypes (k, d)."""
        z = self.embed(meta.params, meta.buffers, support.inputs)
        return prototypes(z, support.y, self.problem.way, support.mask)

    def predict(self, meta: Meta, task: Tensor, query: Inputs) -> Tensor:
        """Likeness to every prototype."""
        return self.likeness(self.embed(meta.params, meta.buffers, query), task)

    def likeness(self, z: Tensor, means: Tensor) -> Tensor:
        """By the metric, of features (n, d) to prototypes (k, d): (n, k)."""
        return self.scale * cosine(z, means) if self.metric == "cosine" else -squared_euclidean(z, means)
