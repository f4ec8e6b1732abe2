"""How images become what a network was trained on."""

from typing import NamedTuple


class Preprocessing(NamedTuple):
    """What a pre-trained network expects; it applies size, mean and std itself, to images in [0, 1]."""

    size: int  # side in pixels
    mean: tuple[float, ...]  # of each channel
    std: tuple[float, ...]
    resample: str = "bilinear"  # or "bicubic"
    crop: float = 1.0  # the share of the resized image's side that is kept, from its middle
