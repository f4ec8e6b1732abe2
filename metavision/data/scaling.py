"""From bytes to the numbers that a network sees."""

from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from metavision.data import transfer
from metavision.data.source import Source

SAMPLE = 10_000  # images that mean and deviation are taken from; more would change them in the fourth digit


class Scaling(NamedTuple):
    """(x / 255 - mean) / std for every channel."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @classmethod
    def of(cls, source: Source) -> Self:
        """The scaling that makes the images of a source have mean 0 and deviation 1 in every channel."""
        index = np.linspace(0, len(source) - 1, min(SAMPLE, len(source))).astype(np.int64)
        total, squares = np.zeros(source.images.shape[1]), np.zeros(source.images.shape[1])
        for part in np.array_split(index, max(1, len(index) // 500)):
            x = source.read(part).astype(np.float64) / 255
            total, squares = total + x.sum((0, 2, 3)), squares + (x**2).sum((0, 2, 3))
        n = len(index) * source.images.shape[2] * source.images.shape[3]
        mean = total / n
        std = np.sqrt(np.maximum(squares / n - mean**2, 1e-6))  # a channel may be constant
        return cls(tuple(mean.tolist()), tuple(std.tolist()))

    def __call__(self, images: Tensor) -> Tensor:
        """Bytes (n, C, H, W) to numbers of the default precision."""
        if self.is_unit:
            return images.to(torch.get_default_dtype()).div_(255)
        factor, offset = self._coefficients(images.device)
        return (images * (factor / 255)).add_(offset)

    def standardised(self, x: Tensor) -> Tensor:
        """Numbers in [0, 1], such as augmented images, in place."""
        if self.is_unit:
            return x
        factor, offset = self._coefficients(x.device)
        return x.mul_(factor).add_(offset)

    @property
    def is_unit(self) -> bool:
        return all(m == 0 for m in self.mean) and all(s == 1 for s in self.std)

    def _coefficients(self, device: torch.device) -> tuple[Tensor, Tensor]:
        factor = 1 / torch.tensor(self.std, dtype=torch.get_default_dtype()).view(-1, 1, 1)
        offset = -torch.tensor(self.mean, dtype=torch.get_default_dtype()).view(-1, 1, 1) * factor
        return transfer.to(device, factor), transfer.to(device, offset)


UNIT = Scaling()
