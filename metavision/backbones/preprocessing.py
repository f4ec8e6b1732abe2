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

    @property
    def resized(self) -> int:
        """The shorter side in pixels, before the middle is cut out."""
        return int(self.size / self.crop + 1e-6)  # cut off as timm does, where 224 / (224 / 232) must be 232

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> Self:
        """From JSON of `_asdict`."""
        return cls(**{**recorded, "mean": tuple(recorded["mean"]), "std": tuple(recorded["std"])})
