"""A split of a data set: which images belong to which class, and where their pixels are."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeVar

import numpy as np

from metavision.errors import InputError, suggestion

T = TypeVar("T")


class NoSplit(InputError):
    """A data set has no split of this name."""


class Pixels(Protocol):
    """Images that can be had by their rows: an array in memory, a memory map, or several of these as one."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __getitem__(self, rows: Any) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class Source:
    """The images and classes of one split.

    Args:
        name: of the data set, the same for all ways to split it.
        split: train, val or test.
        images: (M, C, H, W) uint8; may hold other splits too.
        labels: (N,) int64, an index into `classes`.
        classes: a name for each class.
        rows: (N,) int64, where in `images` each image is; None: image i is row i.
        digests: (N, 16) uint8, a hash of the pixels of each; None: to be computed when asked for.
        groups: a name for the group of each class (alphabet, superclass); None: there are none.
        keys: a name for each class that is the same in every data set which has the class; None: `name:class`.
        mixed: every episode draws its classes from a single group.
        shared: classes are the same in all splits, and images are not: ordinary classification.
        partly: where this holds of some classes alone, their keys.
    """

    name: str
    split: str
    images: Pixels
    labels: np.ndarray
    classes: tuple[str, ...]
    rows: np.ndarray | None = None
    digests: np.ndarray | None = None
    groups: tuple[str, ...] | None = None
    keys: tuple[str, ...] | None = None
    mixed: bool = False
    shared: bool = False
    partly: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: np.ndarray | slice) -> np.ndarray:
        """(n, C, H, W) uint8: a copy of the pixels of images `index`."""
        if self.rows is not None:
            return np.asarray(self.images[self.rows[index]])
        return np.array(self.images[index])

    @cached_property
    def fingerprint(self) -> str:
        """A hash of pixels, labels and class names: equal fingerprints mean equal episodes."""
        digest = hashlib.sha256(np.ascontiguousarray(self.hashes).data)
        digest.update(np.ascontiguousarray(self.labels, dtype=np.int64).data)
        digest.update("\n".join(self.classes).encode())
        return digest.hexdigest()[:16]

    @cached_property
    def class_hashes(self) -> list[str]:
        """A short hash of each class, by which a checkpoint remembers what it was trained on."""
        return [hashlib.blake2b(key.encode(), digest_size=6).hexdigest() for key in self.class_keys]

    @property
    def class_keys(self) -> tuple[str, ...]:
        """A name for each class that tells it from those of other data sets."""
        return self.keys or tuple(f"{self.name}:{name}" for name in self.classes)

    @property
    def known(self) -> frozenset[str]:
        """Keys of the classes that are the same in all splits by intent."""
        return frozenset(self.class_keys) if self.shared else self.partly

    @property
    def new_hashes(self) -> list[str]:
        """Hashes of the classes that must be new to a network."""
        known = self.known
        return [one for key, one in zip(self.class_keys, self.class_hashes, strict=True) if key not in known]

    @cached_property
    def hashes(self) -> np.ndarray:
        """(N, 16) uint8: a hash of the pixels of each image."""
        if self.digests is not None:
            return self.digests
        hashes = (hashlib.blake2b(self.read(np.array([i])).tobytes(), digest_size=16) for i in range(len(self)))
        return np.stack([np.frombuffer(one.digest(), np.uint8) for one in hashes])

    @cached_property
    def by_class(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(order, start, count): the images of class c are order[start[c] : start[c] + count[c]]."""
        order = np.argsort(self.labels, kind="stable")
        count = np.bincount(self.labels, minlength=len(self.classes))
        return order, np.cumsum(count) - count, count


class DataSet(Protocol):
    """What `data=` builds: named splits with disjoint classes."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of its images."""
        ...

    def source(self, split: str) -> Source:
        """One split.

        Raises:
            NoSplit: there is no such split.
            InputError: its data is not here, or can't be read.
        """
        ...


class Stack:
    """Several arrays of images as one: rows of the first, then those of the second, and so on.

    Args:
        parts: each (M_i, C, H, W), all of one C, H, W.
    """

    def __init__(self, parts: Sequence[Pixels]) -> None:
        self.parts = parts
        self.starts = np.cumsum([0, *(part.shape[0] for part in parts)])

    @property
    def shape(self) -> tuple[int, ...]:
        return int(self.starts[-1]), *self.parts[0].shape[1:]

    def __getitem__(self, rows: Any) -> np.ndarray:
        rows = np.arange(self.shape[0])[rows]
        found = np.empty((len(rows), *self.shape[1:]), np.uint8)
        which = np.searchsorted(self.starts, rows, side="right") - 1
        for part in np.unique(which):
            here = which == part
            found[here] = self.parts[part][rows[here] - self.starts[part]]
        return found


def pick(splits: Mapping[str, T], split: str, name: str) -> T:
    """The entry of a split, or an error that lists those that exist."""
    if split not in splits:
        raise NoSplit(f"{name} has no split {split}{suggestion(split, splits)}")
    return splits[split]
