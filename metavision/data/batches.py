"""From drawn indices to tensors on the device."""

import sys
from collections.abc import Sequence, Sized
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metavision.data import transfer
from metavision.data.ahead import Ahead
from metavision.data.augment.base import Augmentation
from metavision.data.augment.tasks import TURNS, mix, turn_classes
from metavision.data.draws import integers, random_words, uniform
from metavision.data.enumeration import Enumeration
from metavision.data.episodes import Draw, Rows, Sampler
from metavision.data.images import Images, spread
from metavision.data.source import Source
from metavision.data.spec import EpisodeSpec
from metavision.errors import InputError
from metavision.seeds import seed
from metavision.types import Episode, Examples, Inputs


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What is done to the images of training, by the place that they come from.

    Args:
        support: to support images; likewise `query`, `unlabelled`, and `batch` for the batches of pre-training.
        turn_classes: every class of an episode is turned by 0, 90, 180 or 270 degrees, which makes new classes.
        mix: concentration a of the Beta(a, a) distribution by which an episode is blended with another; None: it isn't.
    """

    support: Augmentation | None = None
    query: Augmentation | None = None
    unlabelled: Augmentation | None = None
    batch: Augmentation | None = None
    turn_classes: bool = False
    mix: float | None = None

    def __post_init__(self) -> None:
        if self.mix is not None and not self.mix > 0:
            raise InputError(f"augment.mix is {self.mix}; it must be above 0, or null")


PLAIN = Augment()


class Episodes:
    """Batches of tasks from a source that is held as bytes.

    Args:
        sampler: decides what is in an episode.
        images: the pixels of its source.
        augment: what else happens to images; a function of the episode's index, as everything about it.
    """

    def __init__(self, sampler: Sampler, images: Images, augment: Augment = PLAIN) -> None:
        self.sampler, self.images, self.augment = sampler, images, augment
        self._draws = Ahead(sampler)
        if augment.mix is not None and sampler.spec.padded:
            raise InputError("augment.mix blends the classes of two episodes, which must be of one size: sizes=fixed")

    def __len__(self) -> int:
        """How many episodes there are; a list without end has 2^63."""
        return len(self.sampler) if isinstance(self.sampler, Sized) else sys.maxsize

    @property
    def spec(self) -> EpisodeSpec:
        return self.sampler.spec

    @property
    def seed(self) -> int:
        return self.sampler.seed

    @property
    def key(self) -> int:
        return self.sampler.key

    @property
    def replacement(self) -> bool:
        """Whether an image can be in several episodes."""
        return not isinstance(self.sampler, Enumeration)

    @property
    def where(self) -> str:
        """Where the pixels are."""
        return self.images.where

    @property
    def source(self) -> Source:
        return self.sampler.source

    @property
    def device(self) -> torch.device:
        return self.images.device

    def batch(self, indices: Sequence[int]) -> Episode:
        """Episodes `indices` as T tasks: x (T, n, C, H, W) scaled, y (T, n), mask (T, n) where sizes vary."""
        i = np.asarray(indices, dtype=np.uint64)
        episode = self._read(self._draws[i], i)
        if self.augment.mix is not None:
            # Partners come from the far end of the list, so that no episode is blended with a copy of itself.
            episode = mix(episode, self._read(self.sampler[~i], ~i), self._weights(i, self.augment.mix))
        return episode

    def classes(self, indices: Sequence[int]) -> np.ndarray:
        """The source's class behind each label of episodes `indices`: (T, k), -1 where there is none."""
        return self._draws[np.asarray(indices, dtype=np.uint64)].classes[:, : self.spec.way]

    def pool(self, n: int) -> Tensor:
        """n images (n, C, H, W) of the split."""
        return spread(self.images, len(self.source), n)

    def _read(self, draw: Draw, i: np.ndarray) -> Episode:
        support = self._examples(draw.support, self.augment.support, i, "support")
        query = self._examples(draw.query, self.augment.query, i, "query")
        unlabelled = None
        if draw.unlabelled is not None:
            rest = self._examples(draw.unlabelled, self.augment.unlabelled, i, "unlabelled")
            unlabelled = Inputs(rest.x, rest.mask)
        return Episode(support, query, unlabelled)

    def _examples(self, rows: Rows, augmentation: Augmentation | None, i: np.ndarray, slot: str) -> Examples:
        tasks, n = rows.image.shape
        index = np.ascontiguousarray(rows.image).reshape(-1)
        if augmentation is None:
            x = self.images.take(index)
        else:
            x = self.images.augmented(index, augmentation, self._key(slot), i)
        y = transfer.to(self.device, np.ascontiguousarray(rows.label))
        mask = None if rows.mask is None else transfer.to(self.device, rows.mask)
        examples = Examples(x.view(tasks, n, *x.shape[1:]), y, mask)
        if self.augment.turn_classes:
            turns = integers(random_words(self._key("turns"), i, self.sampler.spec.way), TURNS)
            examples = turn_classes(examples, transfer.to(self.device, turns))
        return examples

    def _weights(self, i: np.ndarray, concentration: float) -> Tensor:
        from scipy.special import betaincinv

        share = betaincinv(concentration, concentration, uniform(random_words(self._key("mix"), i, 1)[:, 0]))
        return transfer.to(self.device, share).to(torch.get_default_dtype())

    def _key(self, use: str) -> int:
        return seed("augment", use, self.sampler.key)
