"""The pixels of a split as a network sees them: gathered, augmented, scaled."""

import numpy as np
import torch
from torch import Tensor

from metavision.data import transfer
from metavision.data.augment.base import Augmentation
from metavision.data.draws import random_words, uniform
from metavision.data.resident import Resident
from metavision.data.scaling import UNIT, Scaling

PIECE = 32  # images that are augmented together on a CPU: more leave its cache, fewer make the calls themselves count


class Images:
    """Images by their index in a split.

    Args:
        resident: their bytes.
        scaling: of pixels; None: they stay bytes, where nothing else happens to them.
    """

    def __init__(self, resident: Resident, scaling: Scaling | None = UNIT) -> None:
        self.resident, self.scaling = resident, scaling

    @property
    def device(self) -> torch.device:
        return self.resident.device

    @property
    def where(self) -> str:
        """Where the bytes are."""
        return self.resident.where

    def take(self, index: np.ndarray) -> Tensor:
        """(n, C, H, W)."""
        images = self.resident.take(index)
        return images if self.scaling is None else self.scaling(images)

    def augmented(self, index: np.ndarray, augmentation: Augmentation, key: int, streams: np.ndarray) -> Tensor:
        """(n, C, H, W), changed by random numbers that are functions of (key, stream, place in the stream).

        Args:
            index: (n,) images, those of the first stream first.
            augmentation: what is done to them.
            key: names the use.
            streams: (T,) numbers of the streams, such as those of episodes.
        """
        images = self.resident.take(index)
        words = random_words(key, streams, len(images) // len(streams) * augmentation.draws)
        numbers = transfer.to(self.device, uniform(words).reshape(len(images), -1))
        size = PIECE if self.device.type == "cpu" else max(1, len(images))
        pieces = zip(images.split(size), numbers.split(size), strict=True)
        done = [(self.scaling or UNIT).standardised(augmentation(UNIT(some), u)) for some, u in pieces]
        return done[0] if len(done) == 1 else torch.cat(done)


class Features(Images):
    """The features of a split (N, d), in the place of its images."""

    scaling = None

    def __init__(self, features: Tensor) -> None:
        self.features = features

    @property
    def device(self) -> torch.device:
        return self.features.device

    @property
    def where(self) -> str:
        return "embedded"

    def take(self, index: np.ndarray) -> Tensor:
        """(n, d)."""
        return self.features.index_select(0, transfer.to(self.device, index))


def spread(images: Images, size: int, n: int) -> Tensor:
    """n of the `size` images of a split (n, C, H, W), evenly spread over it: what statistics are calibrated on."""
    return images.take(np.linspace(0, size - 1, min(n, size)).astype(np.int64))
