"""Turned images."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from metavision.errors import InputError


@dataclass(frozen=True)
class RandomRotation:
    """Turned about the middle, bilinearly; what comes from outside is 0.

    Args:
        degrees: the angle is uniform in [-degrees, degrees], counter-clockwise.
    """

    degrees: float

    def __post_init__(self) -> None:
        if not 0 <= self.degrees < math.inf:
            raise InputError(f"degrees is {self.degrees}; it must be finite and not negative")

    @property
    def draws(self) -> int:
        return 1

    def angles(self, u: Tensor) -> Tensor:
        """(n,) degrees."""
        return self.degrees * (2 * u[:, 0] - 1)

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        if len(x) == 0:
            return x  # affine_grid refuses to make none
        height, width = x.shape[-2:]
        angle = (self.angles(u) * (math.pi / 180)).to(x.dtype)
        cos, sin = angle.cos(), angle.sin()
        # Where a pixel comes from, in units of half the image: sides of unlike length stretch the turn.
        theta = torch.stack([cos, -sin * height / width, sin * width / height, cos], dim=1).view(-1, 2, 2)
        theta = torch.cat([theta, theta.new_zeros(len(theta), 2, 1)], dim=2)
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
