"""How a file becomes what a network was trained on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from metavision import build
from metavision.backbones.base import Backbone
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
        crop: the share of the side that is kept, from the middle.
    """

    decoder: Decoder
    scaling: Scaling = UNIT
    crop: float = 1.0

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
        expected = getattr(backbone, "preprocessing", None)
        if expected is None:
            return cls(Decoder(size))
        return cls(Decoder(expected.size, resample=expected.resample), UNIT, expected.crop)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.decoder.shape

    def pixels(self, content: Content | np.ndarray) -> np.ndarray:
        """(C, H, W) uint8.

        Raises:
            ValueError: it is no image that can be read; the message says why.
        """
        size = self.decoder.size
        whole = round(size / self.crop)
        edge = (whole - size) // 2
        return replace(self.decoder, size=whole)(content)[:, edge : edge + size, edge : edge + size]

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
        return {"decoder": asdict(self.decoder), "scaling": scaling, "crop": self.crop}

    @classmethod
    def from_dict(cls, about: Mapping[str, Any]) -> Self:
        return cls(Decoder(**about["decoder"]), build.scaling_of(about), about["crop"])
