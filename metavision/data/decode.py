"""From an image file of any kind to bytes of one shape."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from metavision.data.files import Content
from metavision.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
LARGEST = 200_000_000  # pixels; more is a mistake or an attack, and would fill the memory before it is made small

Fit = Literal["squash", "crop"]
Filter = Literal["nearest", "box", "bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True)
class Decoder:
    """Makes every image (C, size, size) uint8.

    An image is turned upright as its EXIF data says, 16 bits are scaled to 8, CMYK and palettes become RGB, and what is
    transparent turns white.

    Args:
        size: side in pixels.
        color: rgb (C = 3; grey images are repeated) or grey (C = 1).
        fit: squash to a square, or crop the middle of the longer side.
        resample: filter; all but `nearest` average over the area of a pixel where they shrink.
        invert: dark becomes bright, for ink on paper.
    """

    size: int
    color: Literal["rgb", "grey"] = "rgb"
    fit: Fit = "crop"
    resample: Filter = "bilinear"
    invert: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 1024:
            raise InputError(f"data.size is {self.size}; images can be made 1 to 1024 pixels wide")

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3 if self.color == "rgb" else 1, self.size, self.size

    def __call__(self, content: Content | np.ndarray) -> np.ndarray:
        """(C, size, size) uint8 of a file, its bytes, or an array (H, W) or (H, W, 3) uint8.

        Raises:
            ValueError: it is no image that can be read; the message says why.
        """
        return self.pixels(content, self._fitted)

    def pixels(self, content: Content | np.ndarray, fitted: Callable[[Image.Image], Image.Image]) -> np.ndarray:
        """The same, where `fitted` brings an image to the size in a way of its own."""
        try:
            if isinstance(content, np.ndarray):
                return self._bytes(Image.fromarray(content), fitted)
            with Image.open(content if isinstance(content, Path) else io.BytesIO(content)) as image:
                _bounded(image)
                return self._bytes(image, fitted)
        except Exception as error:  # decoders of foreign formats fail in any way
            raise ValueError(f"{error}" or type(error).__name__) from error

    def _bytes(self, image: Image.Image, fitted: Callable[[Image.Image], Image.Image]) -> np.ndarray:
        plain = _eight_bits(_upright(image)).convert("RGB" if self.color == "rgb" else "L")
        if plain.size != (self.size, self.size):
            plain = fitted(plain)
        pixels = np.asarray(plain).reshape(self.size, self.size, -1).transpose(2, 0, 1)
        return np.ascontiguousarray(255 - pixels if self.invert else pixels)

    def _fitted(self, image: Image.Image) -> Image.Image:
        filter_, side = Image.Resampling[self.resample.upper()], (self.size, self.size)
        return ImageOps.fit(image, side, filter_) if self.fit == "crop" else image.resize(side, filter_)


def _bounded(image: Image.Image) -> None:
    if image.width * image.height > LARGEST:
        raise ValueError(f"{image.width} x {image.height} pixels are too many")


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF data says; data that can't be read says nothing, and does no harm to the pixels."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # of foreign formats
        return image


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255; or 32 that hold 16
        return Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) // 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("its pixels are floats of an unknown range")
    if image.has_transparency_data:
        sheet = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(sheet, image.convert("RGBA"))
    return image
