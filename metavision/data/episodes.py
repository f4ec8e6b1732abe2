"""Episodes as index arithmetic: which classes and images, decided before any pixel is read.

Episode i is a function of (fingerprint, spec, split, seed, i) alone: whatever the batch, the device or the worker.
"""

from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

from metavision.data.source import Source
from metavision.errors import InputError
from metavision.seeds import seed


@dataclass(frozen=True)
class EpisodeSpec:
    """The composition of an episode.

    Args:
        way: classes, k.
        shot: support images a class.
        query: query images a class.
    """

    way: int
    shot: int
    query: int

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < (2 if name == "way" else 1):
                raise InputError(f"{name} is {value}; an episode needs at least {2 if name == 'way' else 1}")

    def __str__(self) -> str:
        return f"{self.way}-way {self.shot}-shot {self.query}-query"


class Draw(NamedTuple):
    """Indices of images, a leading T for a batch; class j of the episode is row j."""

    support: np.ndarray  # (k, shot) int64
    query: np.ndarray  # (k, query) int64
    classes: np.ndarray  # (k,) int64: the source's class behind each label


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
        here = f"{source.name} {source.split}"
        if spec.way > len(source.classes):
            raise InputError(f"{spec.way}-way episodes need {spec.way} classes; {here} has {len(source.classes)}")
        need, smallest = spec.shot + spec.query, int(self._count.argmin())
        if need > self._count[smallest]:
            raise InputError(
                f"{spec.shot}-shot {spec.query}-query episodes need {need} images a class; "
                f"class {source.classes[smallest]} of {here} has {self._count[smallest]}"
            )

    @property
    def key(self) -> int:
        """What the random numbers of all episodes are derived from."""
        s = self.spec
        return seed("episodes", self.source.fingerprint, self.source.split, s.way, s.shot, s.query, self.seed)

    def __getitem__(self, i: int | np.ndarray | list[int] | range) -> Draw:
        indices = np.atleast_1d(np.asarray(i, dtype=np.uint64))
        draw = self._draw(indices)
        return Draw(*(rows[0] for rows in draw)) if np.ndim(i) == 0 else draw

    def _draw(self, indices: np.ndarray) -> Draw:
        spec, images = self.spec, self.spec.shot + self.spec.query
        slots = spec.way * (1 + images)  # a random word for every class and every image of an episode
        words = random_words(self.key, indices, slots)
        classes = distinct(words[:, : spec.way], np.full((len(indices), 1), len(self._count)))
        within = distinct(words[:, spec.way :].reshape(-1, images), self._count[classes].reshape(-1, 1)).reshape(
            len(indices), spec.way, images
        )
        chosen = self._order[self._start[classes][..., None] + within]
        return Draw(chosen[..., : spec.shot], chosen[..., spec.shot :], classes)


def random_words(key: int, indices: np.ndarray, n: int) -> np.ndarray:
    """n random 64-bit words for every index, (len(indices), n) uint64: a counter hashed by SplitMix64.

    Reference: Fast Splittable Pseudorandom Number Generators (Steele, Lea and Flood, 2014). Counter-based, because any
    episode must be had without drawing those before it, and many at once without a loop.
    """
    with np.errstate(over="ignore"):
        streams = _mix(indices.astype(np.uint64) + _mix(np.array([key], dtype=np.uint64)))
        return _mix(streams[:, None] + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def distinct(words: np.ndarray, population: np.ndarray) -> np.ndarray:
    """Ordered draws without replacement: words (B, n), population (B, 1) -> (B, n) distinct numbers in [0, population).

    The first n rounds of a Fisher-Yates shuffle, with the few swapped places looked up instead of stored: round j takes
    place j + word mod (population - j), and finds there the number that an earlier round put there. The bias of the
    remainder is below 2^-40 for populations under 2^24.
    """
    n = words.shape[1]
    places = np.arange(n) + (words % (population - np.arange(n)).astype(np.uint64)).astype(np.int64)
    drawn = np.empty_like(places)
    moved = np.empty_like(places)  # what round j put into places[:, j]: the number that stood at place j
    for j in range(n):
        drawn[:, j], moved[:, j] = places[:, j], j
        for earlier in range(j):  # later rounds overwrite earlier ones
            drawn[:, j] = np.where(places[:, earlier] == places[:, j], moved[:, earlier], drawn[:, j])
            moved[:, j] = np.where(places[:, earlier] == j, moved[:, earlier], moved[:, j])
    return drawn
