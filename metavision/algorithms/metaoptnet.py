"""A support vector machine as the head of an episode."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from metavision.algorithms.base import Algorithm
from metavision.errors import InputError
from metavision.functional.prototypes import members
from metavision.functional.svm import crammer_singer
from metavision.types import Examples, Inputs, Meta


@dataclass(frozen=True, eq=False, kw_only=True)
class MetaOptNet(Algorithm):
    """A multi-class support vector machine on the features, solved exactly and differentiated at the solution.

    Reference:
        Meta-Learning with Differentiable Convex Optimization (Lee et al., 2019), https://arxiv.org/abs/1904.03758

    The scale of the logits is learned. Its ridge-regression variant is `r2d2` on the same backbone.

    Args:
        penalty: C of the machine.
        iterations: of the interior-point method; enough for a solution, at which the gradient is taken.
        smoothing: of the labels in training; 0.125 for mini-ImageNet, which is the authors' 0.1, as the true class of
            five has no part of that.
    """

    penalty: float = 0.1
    iterations: int = 15
    smoothing: float = 0.0

    frozen: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (self.penalty > 0 and self.iterations >= 1 and 0 <= self.smoothing < 1):
            raise InputError(
                f"algo.penalty={self.penalty} must be above 0, algo.iterations={self.iterations} at least 1, "
                f"algo.smoothing={self.smoothing} from 0 to below 1"
            )

    def init(self, generator: torch.Generator) -> Meta:
        params = super().init(generator).params
        return Meta(params | {"solver.scale": torch.tensor(1.0)}, {})

    def adapt(self, meta: Meta, support: Examples, unlabelled: Inputs | None = None) -> Tensor:  # noqa: ARG002
        """Weights (d, k)."""
        z = self.embed(meta.params, meta.buffers, support.inputs)
        y, present = F.one_hot(support.y, self.problem.way), None
        if support.mask is not None:
            z = z * support.mask.to(z.dtype).unsqueeze(-1)
            present = members(support.y, self.problem.way, support.mask, z.dtype).sum(0) > 0
        return z.T @ crammer_singer(z @ z.T, y, self.penalty, self.iterations, present)

    def predict(self, meta: Meta, task: Tensor, query: Inputs) -> Tensor:
        return meta.params["solver.scale"] * (self.embed(meta.params, meta.buffers, query) @ task)

    def loss(self, logits: Tensor, query: Examples) -> Tensor:
        smoothing = self.smoothing if self.backbone.training else 0.0
        return self.problem.loss(logits, query, smoothing)
