"""Adam with decoupled weight decay, for fine-tuning."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from metavision import trees
from metavision.errors import InputError
from metavision.types import P


class Moments(NamedTuple):
    """What AdamW remembers."""

    first: P  # moving average of the gradients
    second: P  # and of their squares
    decay1: Tensor  # beta1 to the power of the steps done
    decay2: Tensor


@dataclass(frozen=True)
class AdamW:
    """torch's AdamW as an inner-loop update; without decay it is its Adam.

    Reference:
        Decoupled Weight Decay Regularization (Loshchilov and Hutter, 2019), https://arxiv.org/abs/1711.05101

    It is for steps that nobody differentiates: at a gradient of 0 its root has no slope.

    Args:
        lr: inner learning rate.
        beta1: decay of the average of gradients.
        beta2: decay of that of their squares.
        epsilon: keeps small gradients small.
        decay: of the weights, times lr in every step.
    """

    lr: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    decay: float = 0.0

    learns_rates: ClassVar[bool] = False

    def __post_init__(self) -> None:
        betas = 0 <= self.beta1 < 1 and 0 <= self.beta2 < 1
        if not (self.lr > 0 and betas and self.epsilon > 0 and self.decay >= 0):
            raise InputError(
                f"lr={self.lr}, beta1={self.beta1}, beta2={self.beta2}, epsilon={self.epsilon}, decay={self.decay} "
                "make no AdamW"
            )

    def init(self, params: P, generator: torch.Generator) -> P:  # noqa: ARG002 - it learns nothing
        return {}

    def start(self, params: P) -> Moments:
        zeros = {name: torch.zeros_like(p) for name, p in params.items()}
        return Moments(zeros, zeros, torch.ones(()), torch.ones(()))

    def step(self, rule: P, state: Moments, grads: P, params: P) -> tuple[P, Moments]:  # noqa: ARG002
        first = trees.map_with(lambda m, g: torch.lerp(g, m, self.beta1), state.first, grads)
        second = trees.map_with(lambda v, g: torch.lerp(g * g, v, self.beta2), state.second, grads)
        decay1, decay2 = state.decay1 * self.beta1, state.decay2 * self.beta2

        def moved(p: Tensor, m: Tensor, v: Tensor) -> Tensor:
            step = m / (1 - decay1) / ((v / (1 - decay2)).sqrt() + self.epsilon)
            return p - self.lr * (step + self.decay * p)

        return trees.map_with(moved, params, first, second), Moments(first, second, decay1, decay2)
