"""How images become what a network was trained on."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self


class Preprocessing(NamedTuple):
    """What a pre-trained network expects; it applies all of it itself, to images in [0, 1]."""

    size: int  # side in pixels
    mean: tuple[float, ...]  # of each channel
    std: tuple[float, ...]
    resample: str = "bilinear"  # or "bicubic"
    crop: float = 1.0  # the share of the resized image's side that is kept, from its middle
    squash: bool = False  # whether images are made square first, and not the shorter side resized

    @property
    def resized(self) -> int:
        """The shorter side in pixels, before the middle is cut out."""
        return int(self.size / self.crop + 1e-6)  # cut off as timm does, where 224 / (224 / 232) must be 232

    def box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """What of an image becomes the square of `size` pixels: left, upper, right and lower edge, in its own pixels.

        As the libraries do it, which resize the whole image, to whole pixels, and cut out of that.
        """
        edges = []
        for side in (width, height):
            whole = self.resized if self.squash else int(self.resized * side / min(width, height))
            start = round((whole - self.size) / 2)
            edges.append((start * side / whole, min(side, (start + self.size) * side / whole)))
        (left, right), (upper, lower) = edges
        return left, upper, right, lower

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> Self:
        """From JSON of `_asdict`."""
        return cls(**{**recorded, "mean": tuple(recorded["mean"]), "std": tuple(recorded["std"])})
