"""Images with a part missing."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metavision.data.augment.base import interval, share
from metavision.data.augment.crop import boxes


@dataclass(frozen=True)
class RandomErasing:
    """A rectangle is painted over.

    Reference:
        Random Erasing Data Augmentation (Zhong et al., 2020), https://arxiv.org/abs/1708.04896

    Differs from torchvision's in drawing once and clamping what does not fit, where that tries ten times.

    Args:
        p: chance.
        scale: least and greatest share of the area.
        ratio: least and greatest width over height.
        value: what it is painted with, in [0, 1].
    """

    p: float = 0.5
    scale: Sequence[float] = (0.02, 0.33)
    ratio: Sequence[float] = (0.3, 3.3)
    value: float = 0.0

    def __post_init__(self) -> None:
        share("p", self.p)
        share("value", self.value)
        interval("scale", self.scale, 0, 1)
        interval("ratio", self.ratio, 0.001, 1000)

    @property
    def draws(self) -> int:
        return 5

    def boxes(self, x: Tensor, u: Tensor) -> Tensor:
        """(n, 4) int64: top, left, height, width; a height of 0 where nothing is erased."""
        found = boxes(x, u[:, 1:], self.scale, self.ratio)
        return found * (u[:, :1] < self.p)

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        top, left, height, width = self.boxes(x, u).view(-1, 4, 1).unbind(1)
        rows, columns = (torch.arange(size, device=x.device) for size in x.shape[-2:])
        down = (rows >= top) & (rows < top + height)
        across = (columns >= left) & (columns < left + width)
        return x.masked_fill((down[:, :, None] & across[:, None, :]).unsqueeze(1), self.value)
