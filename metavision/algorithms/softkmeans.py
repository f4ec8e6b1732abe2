"""Prototypical networks that learn from unlabelled images."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from metavision.algorithms.protonet import ProtoNet
from metavision.errors import InputError
from metavision.functional.prototypes import members
from metavision.types import Examples, Inputs, Meta


@dataclass(frozen=True, eq=False, kw_only=True)
class SoftKMeans(ProtoNet):
    """Class means that unlabelled images refine, each by how near it is.

    Reference:
        Meta-Learning for Semi-Supervised Few-Shot Classification (Ren et al., 2018), https://arxiv.org/abs/1803.00676,
        soft k-means.

    Args:
        learns_from: the `query`, which makes it transductive; or the `unlabelled` images of semi-supervised episodes
            (`episode.unlabelled`).
        steps: of refinement; 1 in the paper.
    """

    learns_from: Literal["query", "unlabelled"] = "query"
    steps: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 0:
            raise InputError(f"algo.steps is {self.steps}; it must not be negative")

    @property
    def uses_queries(self) -> bool:
        return self.learns_from == "query"

    def adapt(self, meta: Meta, support: Examples, unlabelled: Inputs | None = None) -> Tensor:
        """Refined prototypes (k, d)."""
        means = super().adapt(meta, support)
        if unlabelled is None:
            raise InputError("algo.learns_from is unlabelled, and episodes have no such images: set episode.unlabelled")
        z = self.embed(meta.params, meta.buffers, support.inputs)
        more = self.embed(meta.params, meta.buffers, unlabelled)
        given = members(support.y, self.problem.way, support.mask, z.dtype)
        for _ in range(self.steps):
            logits = self.problem.among(self.likeness(more, means), support)
            share = logits.softmax(-1)
            if unlabelled.mask is not None:
                share = share * unlabelled.mask.to(z.dtype).unsqueeze(-1)
            total = (given.sum(0) + share.sum(0)).clamp_min(1e-12).unsqueeze(-1)
            means = (given.T @ z + share.T @ more) / total
        return means
