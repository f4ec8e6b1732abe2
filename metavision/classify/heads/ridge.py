"""Least squares on the labels."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metavision.classify.heads.base import Linear, OfFeatures, balanced, one_hot
from metavision.functional.ridge import ridge


@dataclass(frozen=True)
class Ridge(OfFeatures):
    """Ridge regression of one-hot labels with free offsets, in which all classes count the same.

    Reference:
        Meta-learning with differentiable closed-form solvers (Bertinetto et al., 2019),
        https://arxiv.org/abs/1805.08136.

    As scikit-learn's `Ridge(alpha=penalty)` with sample weights n / (k n_c).

    Args:
        penalty: of the squared weights.
        scale: makes logits of the outputs, where nothing could be held out to calibrate them.
    """

    name: ClassVar[str] = "ridge"
    penalty: float = 1.0
    scale: float = 10.0

    def fit(self, x: Tensor, y: Tensor, k: int) -> Linear:
        z, w, target = self.scaled(x), balanced(y, k)[:, None], one_hot(y, k)
        middle, share = (w * z).mean(0), 1 / k  # w has a mean of 1, and the weighted mean of the labels is 1 / k
        root = w.sqrt()
        penalty = torch.tensor(self.penalty, dtype=z.dtype)
        weight = ridge(root * (z - middle), root * (target - share), penalty)
        return Linear(weight, share - middle @ weight)

    def logits(self, task: Linear, x: Tensor) -> Tensor:
        return self.scale * (self.scaled(x) @ task.weight + task.bias)

    def affine(self, task: Linear) -> Linear:
        return Linear(self.scale * task.weight, self.scale * task.bias)

    def representers(self, task: Linear, x: Tensor, y: Tensor, k: int) -> Tensor:
        """What is left of the labels: the slope of the penalty is opposite to that of the squares."""
        left = one_hot(y, k) - (self.scaled(x) @ task.weight + task.bias)
        return self.scale * balanced(y, k)[:, None] * left / self.penalty
