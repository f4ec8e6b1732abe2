"""Ridge regression as the head of an episode."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from metavision.algorithms.base import Algorithm
from metavision.errors import InputError
from metavision.functional.prototypes import members
from metavision.functional.ridge import ridge
from metavision.types import Examples, Inputs, Meta


class Head(NamedTuple):
    """What the support teaches."""

    weight: Tensor  # (d, k)


@dataclass(frozen=True, eq=False, kw_only=True)
class R2D2(Algorithm):
    """Least squares on the one-hot labels, solved exactly and differentiated through.

    Reference:
        Meta-learning with differentiable closed-form solvers (Bertinetto et al., 2019),
        https://arxiv.org/abs/1805.08136

    The penalty, and the scale and offset that turn outputs into logits, are learned; the offset, the same for all
    classes, changes no probability. Differs from the authors' code in that features are not followed by a 1, and that
    the penalty is not multiplied by the number of examples.

    Args:
        penalty: where the penalty begins; it is learned as its logarithm.
        scale: where the scale of the logits begins.
    """

    penalty: float = 1.0
    scale: float = 10.0

    frozen: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (self.penalty > 0 and self.scale > 0):
            raise InputError(f"algo.penalty={self.penalty} and algo.scale={self.scale} must be above 0")

    def init(self, generator: torch.Generator) -> Meta:
        params = super().init(generator).params
        params["solver.log_penalty"] = torch.tensor(self.penalty).log()
        params["solver.scale"] = torch.tensor(self.scale)
        params["solver.offset"] = torch.tensor(0.0)
        return Meta(params, {})

    def adapt(self, meta: Meta, support: Examples, unlabelled: Inputs | None = None) -> Head:  # noqa: ARG002
        z = self.embed(meta.params, meta.buffers, support.inputs)
        y = members(support.y, self.problem.way, support.mask, z.dtype)
        if support.mask is not None:
            z = z * support.mask.to(z.dtype).unsqueeze(-1)
        return Head(ridge(z, y, meta.params["solver.log_penalty"].exp()))

    def predict(self, meta: Meta, task: Head, query: Inputs) -> Tensor:
        z = self.embed(meta.params, meta.buffers, query)
        return meta.params["solver.scale"] * (z @ task.weight) + meta.params["solver.offset"]
