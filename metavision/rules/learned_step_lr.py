"""Gradient descent with a learned rate for every layer in every step."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from metavision.errors import InputError
from metavision.types import P


@dataclass(frozen=True)
class LearnedStepLR:
    """params - alpha[step] * grads, with an alpha for every parameter tensor and inner step, learned in the outer loop.

    Reference:
        How to Train Your MAML (Antoniou et al., 2019), https://arxiv.org/abs/1810.09502, section 4.

    Steps beyond those that it learns for, at test time, take the rates of the last.

    Args:
        lr: where the rates begin.
        steps: how many inner steps have rates of their own.
    """

    lr: float = 0.01
    steps: int = 5

    learns_rates: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (self.lr > 0 and self.steps >= 1):
            raise InputError(f"lr={self.lr} and steps={self.steps} of the inner loop must be above 0")

    def init(self, params: P, generator: torch.Generator) -> P:  # noqa: ARG002 - it draws nothing
        return {name: torch.full((self.steps,), self.lr) for name in params}

    def start(self, params: P) -> int:  # noqa: ARG002
        return 0

    def step(self, rule: P, state: int, grads: P, params: P) -> tuple[P, int]:
        at = min(state, self.steps - 1)
        return {name: p - rule[name][at] * grads[name] for name, p in params.items()}, state + 1
