"""Power transform and maximum a posteriori by optimal transport."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from metavision.algorithms.transductive import Transductive
from metavision.errors import InputError
from metavision.functional.distances import squared_euclidean
from metavision.functional.sinkhorn import potentials
from metavision.types import Examples, Inputs, Meta

LEAST = 1e-6  # added to features before their power is taken


class Transport(NamedTuple):
    """Class centres, what each class gets, and where the queries' middle is."""

    centres: Tensor  # (k, d)
    potential: Tensor  # (k,)
    middle: Tensor  # (d,)


@dataclass(frozen=True, eq=False, kw_only=True)
class PTMAP(Transductive):
    """Queries are transported onto class centres, each of which gets as many, and the centres move to meet them.

    Reference:
        Leveraging the Feature Distribution in Transfer-based Few-Shot Learning (Hu et al., 2021),
        https://arxiv.org/abs/2006.03806. That every class has as many queries is assumed: see what `episode.balance`
        does to it.

    Differs in that features are not turned by a QR decomposition, which changes no distance.

    Args:
        power: of the features, which a ReLU has made positive.
        sharpness: lambda of the transport.
        steps: of moving the centres.
        rate: how far they move in one.
        iterations: of Sinkhorn's algorithm.
        centre_sets: make features unit, and centre support and queries each on their own mean, as the authors' code
            does; else leave them as they are after the power.
    """

    power: float = 0.5
    sharpness: float = 10.0
    steps: int = 20
    rate: float = 0.2
    iterations: int = 50
    centre_sets: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (
            self.power > 0 and self.sharpness > 0 and self.steps >= 0 and self.iterations >= 1 and 0 < self.rate <= 1
        ):
            raise InputError(
                f"algo.power={self.power} and algo.sharpness={self.sharpness} must be above 0, algo.steps={self.steps} "
                f"not negative, algo.iterations={self.iterations} at least 1, algo.rate={self.rate} in (0, 1]"
            )

    def adapt(self, meta: Meta, support: Examples, unlabelled: Inputs | None = None) -> Transport:
        z, y, more, counts = self.both(meta, support, unlabelled)
        middle = torch.zeros_like(z[0])
        if self.centre_sets:
            labelled = y.sum(1)
            z = F.normalize(z - (z * labelled.unsqueeze(1)).sum(0) / labelled.sum(), dim=-1)
            middle = (more * counts.unsqueeze(1)).sum(0) / counts.sum()
            more = F.normalize(more - middle, dim=-1)
        present = y.sum(0) > 0
        centres = y.T @ z / y.sum(0).clamp_min(1).unsqueeze(1)
        for _ in range(self.steps):
            share = self._plan(more, centres, counts, present)[0]
            total = (y.sum(0) + share.sum(0)).clamp_min(1e-12).unsqueeze(1)
            centres = centres + self.rate * ((y.T @ z + share.T @ more) / total - centres)
        return Transport(centres, self._plan(more, centres, counts, present)[1], middle)

    def predict(self, meta: Meta, task: Transport, query: Inputs) -> Tensor:
        """The logarithm of what a query gives to each class, but for what all classes share."""
        z = self.features(meta, query)
        if self.centre_sets:
            z = F.normalize(z - task.middle, dim=-1)
        return task.potential - self.sharpness * squared_euclidean(z, task.centres)

    def features(self, meta: Meta, inputs: Inputs) -> Tensor:
        z = (F.relu(super().features(meta, inputs)) + LEAST) ** self.power
        return F.normalize(z, dim=-1) if self.centre_sets else z

    def _plan(self, z: Tensor, centres: Tensor, counts: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Shares (m, k) of the queries, each 1 in sum, and the potentials of the classes (k,)."""
        cost = squared_euclidean(z, centres)
        each = present.to(z.dtype) * counts.sum() / present.sum()
        f, g = potentials(cost, counts, each, 1 / self.sharpness, self.iterations)
        return (f.unsqueeze(1) - self.sharpness * cost + g).exp(), g
