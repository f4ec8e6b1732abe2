"""Transductive information maximisation."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.func import grad

from metavision.algorithms.transductive import Transductive
from metavision.errors import InputError
from metavision.functional.distances import cosine
from metavision.types import Examples, Inputs, Meta

BETAS, EPSILON = (0.9, 0.999), 1e-8  # of Adam


@dataclass(frozen=True, eq=False, kw_only=True)
class TIM(Transductive):
    """Class weights that fit the support, are certain of each query, and spread the queries over all classes.

    Reference:
        Transductive Information Maximization For Few-Shot Learning (Boudiaf et al., 2020),
        https://arxiv.org/abs/2008.11297, by gradient descent (TIM-GD). That queries spread evenly is assumed: see what
        `episode.balance` does to it.

    Args:
        likeness: logits are minus half the squared `euclidean` distance, as in the paper, or the `cosine`.
        temperature: factor on the logits.
        cross_entropy: weight of the support's loss.
        marginal: weight of the entropy of the mean prediction.
        conditional: weight of the mean entropy of the predictions.
        steps: of Adam.
        rate: its learning rate.
    """

    likeness: Literal["euclidean", "cosine"] = "euclidean"
    temperature: float = 15.0
    cross_entropy: float = 0.1
    marginal: float = 1.0
    conditional: float = 0.1
    steps: int = 1000
    rate: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.temperature > 0 and self.rate > 0 and self.steps >= 0):
            raise InputError(
                f"algo.temperature={self.temperature} and algo.rate={self.rate} must be above 0, "
                f"algo.steps={self.steps} not negative"
            )

    def adapt(self, meta: Meta, support: Examples, unlabelled: Inputs | None = None) -> Tensor:
        """Class weights (k, d)."""
        z, y, more, counts = (part.detach() for part in self.both(meta, support, unlabelled))
        weights = y.T @ z / y.sum(0).clamp_min(1).unsqueeze(1)
        absent = y.sum(0) == 0

        everything, n = torch.cat([z, more]), len(z)
        by_support, by_query = y / y.sum(), (counts / counts.sum()).unsqueeze(1)

        def loss(weights: Tensor) -> Tensor:
            log_p = self._logits(everything, weights).masked_fill(absent, -1e9).log_softmax(1)
            p = log_p[n:].exp() * by_query
            mean = p.sum(0)
            fit, certain = -(by_support * log_p[:n]).sum(), -(p * log_p[n:]).sum()
            spread = -(mean * mean.clamp_min(1e-12).log()).sum()
            return self.cross_entropy * fit + self.conditional * certain - self.marginal * spread

        first = second = torch.zeros_like(weights)
        for step in range(1, self.steps + 1):
            slope = grad(loss)(weights)
            first, second = torch.lerp(slope, first, BETAS[0]), torch.lerp(slope * slope, second, BETAS[1])
            scale = (1 - BETAS[1] ** step) ** 0.5 / (1 - BETAS[0] ** step)
            weights = weights - self.rate * scale * first / (second.sqrt() + EPSILON * (1 - BETAS[1] ** step) ** 0.5)
        return weights

    def predict(self, meta: Meta, task: Tensor, query: Inputs) -> Tensor:
        return self._logits(self.features(meta, query), task)

    def _logits(self, z: Tensor, weights: Tensor) -> Tensor:
        if self.likeness == "cosine":
            return self.temperature * cosine(z, weights)
        # -|z - w|^2 / 2, multiplied out: features have norm 1, so that no digits are lost.
        return self.temperature * (z @ weights.T - weights.square().sum(1) / 2 - z.square().sum(1, keepdim=True) / 2)
