"""How a file becomes what a network was trained on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from metavision import build
from metavision.backbones.base import Backbone
from metavision.backbones.preprocessing import Preprocessing
from metavision.data.decode import Decoder
from metavision.data.files import Content
from metavision.data.scaling import UNIT, Scaling
from metavision.errors import InputError


@dataclass(frozen=True)
class Preparing:
    """From a file to bytes (C, H, W), and from bytes to numbers.

    Args:
        decoder: makes images of one shape.
        scaling: of bytes.
        expected: by a pre-trained network, whose library fits images in a way of its own.
    """

    decoder: Decoder
    scaling: Scaling = UNIT
    expected: Preprocessing | None = None

    @classmethod
    def of_run(cls, about: Mapping[str, Any]) -> Self:
        """As the images of a checkpoint's training were prepared.

        Raises:
            InputError: it was trained on no images.
        """
        if len(about["shape"]) != 3:
            raise InputError("this run was trained on no images, so it can't be adapted to a folder of them")
        channels, size, _ = about["shape"]
        usual = Decoder(size, "rgb" if channels == 3 else "grey")
        decoder = getattr(build.dataset(about["config"]), "decoder", usual)
        return cls(replace(decoder, size=size, color=usual.color), build.scaling_of(about))

    @classmethod
    def of_backbone(cls, backbone: Backbone | None, size: int) -> Self:
        """As a pre-trained network expects, which scales the pixels itself; `size` where it says nothing."""
        expected = None if backbone is None else backbone.preprocessing
        return cls(Decoder(size if expected is None else expected.size), UNIT, expected)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.decoder.shape

    def pixels(self, content: Content | np.ndarray) -> np.ndarray:
        """(C, H, W) uint8.

        Raises:
            ValueError: it is no image that can be read; the message says why.
        """
        return self.decoder(content) if self.expected is None else self.decoder.pixels(content, self._as_expected)

    def _as_expected(self, image: Image.Image) -> Image.Image:
        """Resized and cut in one, so that no long and narrow image becomes a vast one in between."""
        wanted = self.expected
        assert wanted is not None
        filter_ = Image.Resampling[wanted.resample.upper()]
        return image.resize((wanted.size, wanted.size), filter_, box=wanted.box(*image.size))

    def numbers(self, images: Tensor) -> Tensor:
        """What the network is given, of images (n, C, H, W): bytes, or numbers in [0, 1].

        Raises:
            InputError: they are of another shape.
        """
        if images.ndim != 4 or tuple(images.shape[1:]) != self.shape:
            raise InputError(
                f"images are of shape {tuple(images.shape)}; needed is (n, {', '.join(map(str, self.shape))})"
            )
        if images.dtype == torch.uint8:
            return self.scaling(images)
        return self.scaling.standardised(images.to(torch.get_default_dtype(), copy=True))

    def as_dict(self) -> dict[str, Any]:
        scaling = {"mean": list(self.scaling.mean), "std": list(self.scaling.std)}
        expected = None if self.expected is None else self.expected._asdict()
        return {"decoder": asdict(self.decoder), "scaling": scaling, "expected": expected}

    @classmethod
    def from_dict(cls, about: Mapping[str, Any]) -> Self:
        expected = None if about["expected"] is None else Preprocessing.of(about["expected"])
        return cls(Decoder(**about["decoder"]), build.scaling_of(about), expected)
