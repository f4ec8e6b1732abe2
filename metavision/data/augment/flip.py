"""Mirror images."""

from dataclasses import dataclass

import torch
from torch import Tensor

from metavision.data.augment.base import share


@dataclass(frozen=True)
class RandomHorizontalFlip:
    """Left becomes right.

    Args:
        p: chance.
    """

    p: float = 0.5
    axis = -1

    def __post_init__(self) -> None:
        share("p", self.p)

    @property
    def draws(self) -> int:
        return 1

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        return torch.where((u < self.p).view(-1, 1, 1, 1), x.flip(self.axis), x)


@dataclass(frozen=True)
class RandomVerticalFlip(RandomHorizontalFlip):
    """Top becomes bottom."""

    axis = -2
