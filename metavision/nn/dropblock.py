"""Dropout of squares of a map."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DropBlock(nn.Module):
    """Zeroes random squares of every map in training, and scales up the rest; does nothing in evaluation.

    Reference:
        DropBlock: A regularization method for convolutional networks (Ghiasi et al., 2018),
        https://arxiv.org/abs/1810.12890: square centres are drawn so often that a fraction `rate` is dropped
        on average, but for overlaps.

    Draws from the global generator, which the engine sets for every step.

    Args:
        rate: fraction of the numbers that is dropped.
        size: side of a square; at most that of the map.
    """

    def __init__(self, rate: float, size: int) -> None:
        super().__init__()
        self.rate, self.size = rate, size

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        height, width = x.shape[-2:]
        size = min(self.size, height, width)
        inner = (height - size + 1, width - size + 1)  # where a whole square fits
        gamma = self.rate * height * width / size**2 / (inner[0] * inner[1])
        corners = (torch.rand(*x.shape[:2], *inner, dtype=x.dtype, device=x.device) < gamma).to(x.dtype)
        kept = 1 - F.max_pool2d(F.pad(corners, [size - 1] * 4), size, stride=1)
        return x * kept * (kept.numel() / kept.sum().clamp_min(1))
