"""Augmentation of whole batches, on the device that they are on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from metavision.errors import InputError


class Augmentation(Protocol):
    """A function of images and of uniform random numbers, which are given, so that it is a function of an episode.

    An image of the result depends on its own image and numbers alone.
    """

    @property
    def draws(self) -> int:
        """Random numbers that an image needs."""
        ...

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        """Images (n, C, H, W) in [0, 1], which it may overwrite, and numbers (n, draws) in [0, 1) to images."""
        ...


@dataclass(frozen=True)
class Compose:
    """One augmentation after another.

    Args:
        steps: in their order.
    """

    steps: Sequence[Augmentation]

    @property
    def draws(self) -> int:
        return sum(step.draws for step in self.steps)

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        for step, numbers in zip(self.steps, u.split([step.draws for step in self.steps], dim=1), strict=True):
            x = step(x, numbers)
        return x


def interval(name: str, values: Sequence[float], least: float, most: float) -> None:
    """Raises InputError unless values are two numbers in order and within bounds."""
    if len(values) != 2 or not least <= values[0] <= values[1] <= most:
        raise InputError(f"{name} is {list(values)}; it must be two numbers in rising order from {least} to {most}")


def share(name: str, value: float) -> None:
    """Raises InputError unless a value is a probability."""
    if not 0 <= value <= 1:
        raise InputError(f"{name} is {value}; it must be from 0 to 1")
