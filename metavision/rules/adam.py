"""Adam without momentum, the inner loop of Reptile."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from metavision import trees
from metavision.errors import InputError
from metavision.types import P


class Squares(NamedTuple):
    """What Adam remembers."""

    mean: P  # moving average of the squared gradients
    decay: Tensor  # beta2 to the power of the steps done


@dataclass(frozen=True)
class Adam:
    """params - lr * grads / (root of their mean square), without a first moment (beta1 = 0).

    Reference:
        Adam: A Method for Stochastic Optimization (Kingma and Ba, 2015), https://arxiv.org/abs/1412.6980; without the
        first moment as in On First-Order Meta-Learning Algorithms (Nichol et al., 2018),
        https://arxiv.org/abs/1803.02999. Differs in that epsilon stands under the root, squared, so that the step can
        be differentiated where a gradient is 0.

    Args:
        lr: inner learning rate.
        beta2: decay of the average.
        epsilon: keeps small gradients small.
    """

    lr: float = 0.001
    beta2: float = 0.999
    epsilon: float = 1e-8

    learns_rates: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not (self.lr > 0 and 0 <= self.beta2 < 1 and self.epsilon > 0):
            raise InputError(f"lr={self.lr}, beta2={self.beta2}, epsilon={self.epsilon} make no Adam")

    def init(self, params: P, generator: torch.Generator) -> P:  # noqa: ARG002 - it learns nothing
        return {}

    def start(self, params: P) -> Squares:
        return Squares({name: torch.zeros_like(p) for name, p in params.items()}, torch.ones(()))

    def step(self, rule: P, state: Squares, grads: P, params: P) -> tuple[P, Squares]:  # noqa: ARG002
        mean = trees.map_with(lambda v, g: self.beta2 * v + (1 - self.beta2) * g * g, state.mean, grads)
        decay = state.decay * self.beta2

        def moved(p: Tensor, g: Tensor, v: Tensor) -> Tensor:
            return p - self.lr * g / (v / (1 - decay) + self.epsilon**2).sqrt()

        return trees.map_with(moved, params, grads, mean), Squares(mean, decay)
