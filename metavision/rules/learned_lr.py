"""Gradient descent with a learned rate for every weight."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from metavision.errors import InputError
from metavision.types import P


@dataclass(frozen=True)
class LearnedLR:
    """params - alpha * grads, with an alpha for every number in params, learned in the outer loop.

    Reference:
        Meta-SGD: Learning to Learn Quickly for Few-Shot Learning (Li et al., 2017), https://arxiv.org/abs/1707.09835

    Differs in that all rates begin alike, where the paper draws them at random near a value.

    Args:
        lr: where the rates begin.
    """

    lr: float = 0.01

    learns_rates: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise InputError(f"the inner learning rate is {self.lr}; it must begin above 0")

    def init(self, params: P, generator: torch.Generator) -> P:  # noqa: ARG002 - it draws nothing
        return {name: torch.full_like(p, self.lr) for name, p in params.items()}

    def start(self, params: P) -> None:  # noqa: ARG002 - it remembers nothing
        return None

    def step(self, rule: P, state: None, grads: P, params: P) -> tuple[P, None]:  # noqa: ARG002
        return {name: p - rule[name] * grads[name] for name, p in params.items()}, None
