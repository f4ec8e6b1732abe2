"""Episodes as index arithmetic: which classes and images, decided before any pixel is read.

Episode i is a function of (fingerprint, spec, split, seed, i) alone: whatever the batch, the device or the worker.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from metavision.data.draws import distinct, random_words
from metavision.data.hierarchy import ClassSampler
from metavision.data.sizes import DRAWS, Sizes, sizes_of
from metavision.data.source import Source
from metavision.data.spec import EpisodeSpec
from metavision.errors import InputError
from metavision.seeds import seed

Index = int | Sequence[int] | np.ndarray | range


class Rows(NamedTuple):
    """Images of an episode, with a leading T for a batch."""

    image: np.ndarray  # (n,) int64, an index into the source; 0 on padding
    label: np.ndarray  # (n,) int64, the class in [0, k); -1: of no class of the episode; 0 on padding
    mask: np.ndarray | None  # (n,) bool, False on padding; None: no padding


class Draw(NamedTuple):
    """Indices of an episode, with a leading T for a batch."""

    support: Rows
    query: Rows
    unlabelled: Rows | None
    classes: np.ndarray  # (k,) int64: the source's class behind each label, then distractors; -1: there is none


class Sampler(Protocol):
    """A list of episodes."""

    source: Source
    spec: EpisodeSpec
    seed: int

    @property
    def key(self) -> int:
        """Tells this list of episodes from others."""
        ...

    def __getitem__(self, i: Index) -> Draw: ...


class EpisodeSampler:
    """Draws classes, then images, uniformly and without replacement within an episode.

    `sampler[i]` is one episode, `sampler[[3, 1, 4]]` a batch of the same episodes. Labels are given in the order in
    which classes are drawn, so a class has no fixed label.

    Args:
        source: what to draw from; no pixel of it is read.
        spec: composition.
        seed: names the stream of episodes.

    Raises:
        InputError: the source has too few classes, or too few images in one of them.
    """

    def __init__(self, source: Source, spec: EpisodeSpec, *, seed: int) -> None:
        self.source, self.spec, self.seed = source, spec, seed
        self._order, self._start, self._count = source.by_class
        self._classes = ClassSampler(source, spec)
        self._images = _images(source, spec)

    @property
    def key(self) -> int:
        s = self.spec
        extra = (s.varied,) if s.varied else ()
        return seed("episodes", self.source.fingerprint, self.source.split, s.way, s.shot, s.query, *extra, self.seed)

    def __getitem__(self, i: Index) -> Draw:
        indices = np.atleast_1d(np.asarray(i, dtype=np.uint64))
        draw = self._draw(indices)
        return first(draw) if np.ndim(i) == 0 else draw

    def _draw(self, indices: np.ndarray) -> Draw:
        spec, tasks, k, n = self.spec, len(indices), self._classes.k, self._images
        widths = (k, k, k * n, DRAWS + 2 * spec.way)
        words = random_words(self.key, indices, sum(widths))
        of_class, more, of_image, of_size = np.split(words, np.cumsum(widths)[:-1], axis=1)
        classes, most = self._classes.draw(of_class, more)
        count = self._count[classes]
        sizes = sizes_of(spec, count, most, of_size)
        within = distinct(of_image.reshape(-1, n), count.reshape(-1, 1)).reshape(tasks, k, n)
        # Places behind the last image of a small class mean nothing, and no size reaches them.
        chosen = self._order[np.minimum(self._start[classes][..., None] + within, len(self._order) - 1)]
        return _cut(spec, sizes, chosen, np.where(sizes.present, classes, -1), self._classes.most)


def _images(source: Source, spec: EpisodeSpec) -> int:
    """How many images to draw of a class; an InputError where one has too few."""
    count = source.by_class[2]
    smallest = int(count.argmin())
    if spec.sizes == "meta_dataset":
        need = 2 + spec.unlabelled
    else:
        need = spec.shot + spec.unlabelled + (spec.query if spec.balance is None else 1)
    if need > count[smallest]:
        raise InputError(
            f"{spec.shot}-shot {spec.query}-query episodes need {need} images a class; "
            f"class {source.classes[smallest]} of {source.name} {source.split} has {count[smallest]}"
        )
    most = spec.shot + spec.unlabelled + spec.query * (1 if spec.balance is None else spec.way)
    return min(most, int(count.max()))


def _cut(spec: EpisodeSpec, sizes: Sizes, chosen: np.ndarray, classes: np.ndarray, way: int) -> Draw:
    """Of the images (T, k, n) drawn of each class, the first are the support, then come queries and unlabelled ones."""
    place, column = np.arange(chosen.shape[2]), np.arange(chosen.shape[1])
    labels = np.where(column < way, column, -1)
    ends = [sizes.shot, sizes.shot + sizes.query, sizes.shot + sizes.query + spec.unlabelled * sizes.present]
    first, second, third = (end[..., None] for end in ends)
    # Supports that may lack classes have a mask in any company: it is by the mask that such classes are left out.
    support = _flat(chosen, labels, place < first, masked=spec.sizes != "fixed")
    query = _flat(chosen, labels, (first <= place) & (place < second))
    rest = _flat(chosen, labels, (second <= place) & (place < third)) if spec.unlabelled else None
    return Draw(support, query, rest, classes)


def _flat(chosen: np.ndarray, labels: np.ndarray, kept: np.ndarray, *, masked: bool = False) -> Rows:
    """(T, k, n) images of which some are kept, as (T, m) rows, padded to the episode with the most.

    Without a mask where none needs padding, unless it is to be `masked`.
    """
    tasks = len(chosen)
    kept = np.broadcast_to(kept, chosen.shape).reshape(tasks, -1)
    number = kept.sum(1)
    most = int(number.max(initial=0))
    label = np.broadcast_to(labels[:, None], chosen.shape[1:]).reshape(-1)
    if (number == most).all() and not masked:
        return Rows(
            chosen.reshape(tasks, -1)[kept].reshape(tasks, most),
            np.broadcast_to(label, kept.shape)[kept].reshape(tasks, most),
            None,
        )
    order = np.argsort(~kept, axis=1, kind="stable")[:, :most]
    mask = np.take_along_axis(kept, order, axis=1)
    image = np.take_along_axis(chosen.reshape(tasks, -1), order, axis=1)
    return Rows(np.where(mask, image, 0), np.where(mask, label[order], 0), mask)


def first(draw: Draw) -> Draw:
    """The only episode of a batch."""

    def rows(of: Rows) -> Rows:
        return Rows(of.image[0], of.label[0], None if of.mask is None else of.mask[0])

    unlabelled = None if draw.unlabelled is None else rows(draw.unlabelled)
    return Draw(rows(draw.support), rows(draw.query), unlabelled, draw.classes[0])
