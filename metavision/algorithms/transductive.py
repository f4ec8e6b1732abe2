"""What heads that learn from the queries share."""

from dataclasses import dataclass

import torch
from torch import Tensor

from metavision.algorithms.pretraining import Pretrained
from metavision.functional.prototypes import members
from metavision.types import Examples, Inputs, Meta


@dataclass(frozen=True, eq=False, kw_only=True)
class Transductive(Pretrained):
    """A head on frozen features that is made of the support and of all queries together, without their labels."""

    @property
    def uses_queries(self) -> bool:
        return True

    def both(self, meta: Meta, support: Examples, unlabelled: Inputs | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features of the support (n, d), one-hot labels (n, k), features of the queries (m, d), and 1 or 0 of each."""
        assert unlabelled is not None, "a transductive head is given the queries"
        z, more = self.features(meta, support.inputs), self.features(meta, unlabelled)
        counts = torch.ones_like(more[:, 0]) if unlabelled.mask is None else unlabelled.mask.to(z.dtype)
        return z, members(support.y, self.problem.way, support.mask, z.dtype), more, counts
