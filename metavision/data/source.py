"""A split of a data set: all of its images as one array, ready to be moved to the device."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeVar

import numpy as np

from metavision.errors import InputError, suggestion

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Source:
    """The images and classes of one split.

    Args:
        name: of the data set, the same for all ways to split it.
        split: train, val or test.
        images: (N, C, H, W) uint8.
        labels: (N,) int64, an index into `classes`.
        classes: a name for each class.
    """

    name: str
    split: str
    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of pixels, labels and class names: equal fingerprints mean equal episodes."""
        digest = hashlib.sha256(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.labels).data)
        digest.update("\n".join(self.classes).encode())
        return digest.hexdigest()[:16]

    @cached_property
    def class_hashes(self) -> list[str]:
        """A short hash of each class's name and data set, by which a checkpoint remembers what it was trained on."""
        return [hashlib.blake2b(f"{self.name}:{name}".encode(), digest_size=6).hexdigest() for name in self.classes]

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
            InputError: there is no such split, or its data is not here.
        """
        ...


def pick(splits: Mapping[str, T], split: str, name: str) -> T:
    """The entry of a split, or an error that lists those that exist."""
    if split not in splits:
        raise InputError(f"{name} has no split {split}{suggestion(split, splits)}")
    return splits[split]
