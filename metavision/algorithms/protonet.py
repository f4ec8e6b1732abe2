"""Prototypical networks."""

from dataclasses import dataclass

from torch import Tensor

from metavision.algorithms.base import Algorithm
from metavision.functional.distances import squared_euclidean
from metavision.functional.prototypes import prototypes
from metavision.types import Examples, Inputs, Meta


@dataclass(frozen=True, eq=False, kw_only=True)
class ProtoNet(Algorithm):
    """The nearest class mean in a learned feature space.

    Reference:
        Prototypical Networks for Few-shot Learning (Snell et al., 2017), https://arxiv.org/abs/1703.05175

    Differs from the authors' code in that support and query are normalised apart in training (there in one batch).
    """

    def adapt(self, meta: Meta, support: Examples, unlabelled: Inputs | None = None) -> Tensor:  # noqa: ARG002
        """Prototypes (k, d)."""
        z = self.embed(meta.params, meta.buffers, support.inputs)
        return prototypes(z, support.y, self.problem.way, support.mask)

    def predict(self, meta: Meta, task: Tensor, query: Inputs) -> Tensor:
        """Minus the squared distance to every prototype."""
        return -squared_euclidean(self.embed(meta.params, meta.buffers, query), task)
