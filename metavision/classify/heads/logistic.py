"""Multinomial logistic regression, of any size."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from metavision.classify.heads.base import Linear, OfFeatures, balanced, one_hot, span

ITERATIONS, SLOPE = 2000, 1e-8  # of the optimizer at most; the largest slope at which it stops


@dataclass(frozen=True)
class Logistic(OfFeatures):
    """The least penalty * sum_i n / (k n_c) CE(z_i W + b, y_i) + |W|^2 / 2: scikit-learn's, with balanced classes.

    Reference:
        Rethinking Few-Shot Image Classification: a Good Embedding Is All You Need? (Tian et al., 2020),
        https://arxiv.org/abs/2003.11539.

    By L-BFGS from zero; the Newton steps of `functional.logistic`, which map over tasks, would solve systems of n k
    unknowns.

    Args:
        penalty: C.
    """

    name: ClassVar[str] = "logistic"
    penalty: float = 1.0

    def fit(self, x: Tensor, y: Tensor, k: int) -> Linear:
        from scipy.optimize import minimize

        z = self.scaled(x)
        middle = z.mean(0)  # offsets are free, so that taking it off changes the path alone, which it shortens
        basis = span(z - middle)
        points = z - middle if basis is None else (z - middle) @ basis
        target, size = one_hot(y, k), points.shape[1] * k
        cost_of = self.penalty * balanced(y, k)[:, None]

        def cost(flat: np.ndarray) -> tuple[float, np.ndarray]:
            parameters = torch.from_numpy(flat)
            weight, bias = parameters[:size].view(-1, k), parameters[size:]
            log_p = (points @ weight + bias).log_softmax(1)
            wrong = cost_of * (log_p.exp() - target)
            loss = -(cost_of * log_p * target).sum() + weight.square().sum() / 2
            slope = torch.cat([(points.T @ wrong + weight).view(-1), wrong.sum(0)])
            return float(loss), slope.numpy()

        options = {"maxiter": ITERATIONS, "maxfun": 2 * ITERATIONS, "ftol": 0.0, "gtol": SLOPE}
        found = minimize(cost, np.zeros(size + k), jac=True, method="L-BFGS-B", options=options).x
        weight, bias = torch.from_numpy(found[:size]).view(-1, k), torch.from_numpy(found[size:])
        weight = weight if basis is None else basis @ weight
        return Linear(weight, bias - middle @ weight)

    def logits(self, task: Linear, x: Tensor) -> Tensor:
        return self.scaled(x) @ task.weight + task.bias

    def affine(self, task: Linear) -> Linear:
        return task

    def representers(self, task: Linear, x: Tensor, y: Tensor, k: int) -> Tensor:
        """What is left of the labels, as in Representer Point Selection for Explaining Deep Neural Networks (Yeh et
        al., 2018), https://arxiv.org/abs/1811.09720."""
        left = one_hot(y, k) - self.logits(task, x).softmax(1)
        return self.penalty * balanced(y, k)[:, None] * left
