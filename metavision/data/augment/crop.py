"""Parts of images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from metavision.data import transfer
from metavision.data.augment.base import interval
from metavision.errors import InputError


@dataclass(frozen=True)
class RandomCrop:
    """A square of an image, at a random place, after padding with zeros.

    Args:
        size: side of the square; None: the image's own, which must be square.
        padding: pixels on every side.
    """

    size: int | None = None
    padding: int = 0

    def __post_init__(self) -> None:
        if self.padding < 0 or (self.size is not None and self.size < 1):
            raise InputError(f"size={self.size}, padding={self.padding}: a side is 1 at least, and a padding 0")

    @property
    def draws(self) -> int:
        return 2

    def corners(self, x: Tensor, u: Tensor) -> Tensor:
        """(n, 2) int64: the top and the left edge of each crop in the padded image."""
        side = side_of(x, self.size)
        room = torch.tensor([x.shape[-2] + 2 * self.padding - side, x.shape[-1] + 2 * self.padding - side])
        if int(room.min()) < 0:
            raise InputError(f"a crop of {side} does not fit images of {x.shape[-2]} x {x.shape[-1]}")
        return (u * transfer.to(u.device, room + 1)).long()

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        """A row of a crop lies together in memory, so a crop is a choice among all runs of that many numbers."""
        corners, side = self.corners(x, u), side_of(x, self.size)
        n, channels, *_ = x.shape
        padded = F.pad(x, [self.padding] * 4).contiguous()
        height, width = padded.shape[-2:]
        row = corners[:, :1] + torch.arange(side, device=x.device)  # (n, side)
        plane = torch.arange(n * channels, device=x.device).view(n, channels, 1) * height
        start = (plane + row.unsqueeze(1)) * width + corners[:, 1].view(n, 1, 1)
        runs = padded.view(-1).as_strided((max(padded.numel() - side + 1, 0), side), (1, 1))
        return runs.index_select(0, start.view(-1)).view(n, channels, side, side)


@dataclass(frozen=True)
class RandomResizedCrop:
    """A rectangle of random area and shape, resized bilinearly, without antialiasing, to a square.

    Differs from torchvision's in drawing once and clamping what does not fit, where that tries ten times.

    Args:
        size: side of the square; None: the image's own, which must be square.
        scale: least and greatest share of the area.
        ratio: least and greatest width over height.
    """

    size: int | None = None
    scale: Sequence[float] = (0.08, 1.0)
    ratio: Sequence[float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise InputError(f"size is {self.size}; a crop needs a side of 1 at least")
        interval("scale", self.scale, 0, 1)
        interval("ratio", self.ratio, 0.001, 1000)

    @property
    def draws(self) -> int:
        return 4

    def boxes(self, x: Tensor, u: Tensor) -> Tensor:
        """(n, 4) int64: top, left, height, width."""
        return boxes(x, u, self.scale, self.ratio)

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        side = side_of(x, self.size)
        top, left, height, width = self.boxes(x, u).to(x.dtype).unsqueeze(-1).unbind(1)  # (n, 1)
        middle = torch.arange(side, device=x.device, dtype=x.dtype) + 0.5

        def places(start: Tensor, length: Tensor, whole: int) -> Tensor:
            inside = (middle * length / side - 0.5).clamp_min(0).minimum(length - 1)
            return (start + inside) * (2 / max(whole - 1, 1)) - 1

        rows, columns = places(top, height, x.shape[-2]), places(left, width, x.shape[-1])
        grid = torch.stack([columns.unsqueeze(1).expand(-1, side, -1), rows.unsqueeze(2).expand(-1, -1, side)], dim=-1)
        return F.grid_sample(x, grid, mode="bilinear", align_corners=True)


def side_of(x: Tensor, size: int | None) -> int:
    """The side of a crop: as asked for, or that of the images."""
    if size is None and x.shape[-2] != x.shape[-1]:
        raise InputError(f"images are {x.shape[-2]} x {x.shape[-1]}; a crop of those that are not square needs a size")
    return size or x.shape[-1]


def boxes(x: Tensor, u: Tensor, scale: Sequence[float], ratio: Sequence[float]) -> Tensor:
    """Random rectangles (n, 4) int64: top, left, height, width; u (n, 4)."""
    whole = transfer.to(u.device, torch.tensor([x.shape[-2], x.shape[-1]]))
    area = whole.prod() * (scale[0] + (scale[1] - scale[0]) * u[:, 0])
    shape = torch.exp(math.log(ratio[0]) + (math.log(ratio[1]) - math.log(ratio[0])) * u[:, 1])
    sides = torch.stack([area / shape, area * shape], dim=1).sqrt().round().clamp_min(1).minimum(whole).long()
    corner = (u[:, 2:4] * (whole - sides + 1)).long()
    return torch.cat([corner, sides], dim=1)
