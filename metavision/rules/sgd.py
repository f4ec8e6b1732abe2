"""Gradient descent with a fixed learning rate."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from metavision import trees
from metavision.errors import InputError
from metavision.types import P


@dataclass(frozen=True)
class SGD:
    """params - lr * grads, the inner loop of MAML.

    Args:
        lr: inner learning rate.
    """

    lr: float = 0.01

    learns_rates: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise InputError(f"the inner learning rate is {self.lr}; it must be above 0")

    def init(self, params: P, generator: torch.Generator) -> P:  # noqa: ARG002 - it learns nothing
        return {}

    def start(self, params: P) -> None:  # noqa: ARG002 - it remembers nothing
        return None

    def step(self, rule: P, state: None, grads: P, params: P) -> tuple[P, None]:  # noqa: ARG002
        return trees.map_with(lambda p, g: torch.add(p, g, alpha=-self.lr), params, grads), None
