"""Matching networks."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from metavision.algorithms.base import Algorithm
from metavision.functional.distances import cosine
from metavision.types import Examples, Inputs, Meta


class Memory(NamedTuple):
    """The support as it is attended to."""

    z: Tensor  # (S, d)
    absent: Tensor  # (S, k) bool: not of this class, or padding


@dataclass(frozen=True, eq=False, kw_only=True)
class MatchingNet(Algorithm):
    """A query's class by attention over the support: softmax of cosines.

    Reference:
        Matching Networks for One Shot Learning (Vinyals et al., 2016), https://arxiv.org/abs/1606.04080

    Without full-context embeddings.

    Args:
        scale: of the cosines; 1 in the paper.
    """

    scale: float = 1.0

    def adapt(self, meta: Meta, support: Examples, unlabelled: Inputs | None = None) -> Memory:  # noqa: ARG002
        z = self.embed(meta.params, meta.buffers, support.inputs)
        present = F.one_hot(support.y, self.problem.way).bool()
        if support.mask is not None:
            present = present & support.mask.unsqueeze(-1)
        return Memory(z, ~present)

    def predict(self, meta: Meta, task: Memory, query: Inputs) -> Tensor:
        """Log-probabilities (n, k): of the attention, what falls to the examples of each class."""
        attention = self.scale * cosine(self.embed(meta.params, meta.buffers, query), task.z)  # (n, S)
        by_class = attention.unsqueeze(-1).masked_fill(task.absent, -torch.inf)  # (n, S, k)
        return by_class.logsumexp(1).log_softmax(-1)
