"""Batches of single images for pre-training: all classes at once, as in ordinary classification."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from metavision import trees
from metavision.data import transfer
from metavision.data.augment.base import Augmentation
from metavision.data.images import Images, spread
from metavision.data.source import Source
from metavision.errors import InputError
from metavision.seeds import seed
from metavision.types import Examples


class Minibatches:
    """Batch i is a function of (fingerprint, split, size, seed, i); an epoch shows every image once, in another order.

    Args:
        source: the split.
        images: its pixels.
        size: images a batch; those left over at the end of an epoch, too few for another, are not shown in it.
        seed: names the orders.
        augmentation: what is done to the images.

    Raises:
        InputError: there are fewer images than a batch needs.
    """

    def __init__(
        self, source: Source, images: Images, size: int, *, seed: int, augmentation: Augmentation | None = None
    ) -> None:
        if not 1 <= size <= len(source):
            raise InputError(
                f"batches of {size} can't be had of the {len(source)} images of {source.name} {source.split}"
            )
        self.source, self.images, self.size, self.seed, self.augmentation = source, images, size, seed, augmentation
        self.epoch = len(source) // size  # batches
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))

    def __getitem__(self, i: int) -> Examples:
        """x (size, C, H, W), y (size,): a class of the split."""
        epoch, place = divmod(i, self.epoch)
        index = self._shuffled(epoch)[place * self.size : (place + 1) * self.size]
        if self.augmentation is None:
            x = self.images.take(index)
        else:
            x = self.images.augmented(index, self.augmentation, self._key("augment"), np.array([i], np.uint64))
        return Examples(x, transfer.to(self.device, self.source.labels[index]))

    @property
    def device(self) -> torch.device:
        return self.images.device

    @property
    def where(self) -> str:
        """Where the pixels are."""
        return self.images.where

    def batch(self, indices: Sequence[int]) -> Examples:
        """Batches `indices` as if each were a task: x (T, size, C, H, W), y (T, size)."""
        return trees.stack([self[i] for i in indices])

    def part(self, i: int, images: range) -> Examples:
        """Of batch i, as if it were the only task, the images at some places: x (1, n, C, H, W), y (1, n)."""
        whole = self[i]
        return Examples(*(tensor[None, images.start : images.stop] for tensor in (whole.x, whole.y)))

    def pool(self, n: int) -> Tensor:
        """n images (n, C, H, W) of the split."""
        return spread(self.images, len(self.source), n)

    def _shuffled(self, epoch: int) -> np.ndarray:
        if self._order[0] != epoch:
            rng = np.random.default_rng(seed(self._key("order"), epoch))
            self._order = epoch, rng.permutation(len(self.source))
        return self._order[1]

    def _key(self, use: str) -> int:
        return seed("batches", use, self.source.fingerprint, self.source.split, self.size, self.seed)
