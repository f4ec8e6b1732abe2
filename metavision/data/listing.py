"""What a data set consists of, before a single image is decoded."""

import csv
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from metavision.data.decode import SUFFIXES
from metavision.data.files import Content, Files
from metavision.errors import InputError


@dataclass(frozen=True)
class Listing:
    """Images by name and class, and how to read them.

    Args:
        classes: their names.
        labels: (N,) int64, an index into `classes`; in rising order.
        names: (N,), for messages.
        read: (index into names, content) of all, in any order; a content is bytes or a path to decode, or an array.
        ignored: how many files were no images.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    names: Sequence[str]
    read: Callable[[], Iterator[tuple[int, Content | np.ndarray]]]
    ignored: int = 0


def of_files(files: Files, names: Sequence[str], class_of: Callable[[str], str | None]) -> Listing:
    """The images among `names`; `class_of` a name is None for a file that belongs to none."""
    images = [name for name in names if name.lower().endswith(SUFFIXES)]
    by_class: dict[str, list[str]] = defaultdict(list)
    for name in images:
        if (label := class_of(name)) is not None:
            by_class[label].append(name)
    return of_classes(files, by_class, ignored=len(names) - len(images))


def of_classes(files: Files, by_class: Mapping[str, Sequence[str]], ignored: int = 0) -> Listing:
    """Files that are given class by class."""
    classes = tuple(sorted(by_class))
    members = [sorted(by_class[name]) for name in classes]
    names = list(chain.from_iterable(members))
    labels = np.repeat(np.arange(len(classes)), [len(group) for group in members])
    return Listing(classes, labels, names, lambda: files.read(names), ignored)


def of_arrays(images: Sequence[np.ndarray | bytes] | np.ndarray, labels: Iterable[str], *, origin: str) -> Listing:
    """Images that are held in memory, such as those of a pickle: (H, W) or (H, W, 3) uint8 each, or encoded bytes."""
    of_image = np.array(list(labels))
    classes, index = np.unique(of_image, return_inverse=True)
    order = np.argsort(index, kind="stable")
    names = [f"{origin}[{i}]" for i in order]
    return Listing(
        tuple(str(name) for name in classes),
        index[order],
        names,
        lambda: ((row, images[i]) for row, i in enumerate(order)),
    )


def merged(listings: Sequence[Listing]) -> Listing:
    """Several listings as one; a class that is in several of them has the images of all."""
    classes = tuple(sorted({name for listing in listings for name in listing.classes}))
    place = {name: c for c, name in enumerate(classes)}
    labels = np.concatenate([np.array([place[name] for name in one.classes])[one.labels] for one in listings])
    order = np.argsort(labels, kind="stable")
    row = np.empty_like(order)
    row[order] = np.arange(len(order))
    names = list(chain.from_iterable(listing.names for listing in listings))
    starts = np.cumsum([0, *(len(listing.names) for listing in listings)])

    def read() -> Iterator[tuple[int, Content | np.ndarray]]:
        for start, listing in zip(starts, listings, strict=False):
            for i, content in listing.read():
                yield int(row[start + i]), content

    ignored = sum(listing.ignored for listing in listings)
    return Listing(classes, labels[order], [names[i] for i in order], read, ignored)


def counts(listing: Listing) -> Counter[int]:
    """How many classes have a number of images: {600: 100} for one hundred classes of six hundred."""
    return Counter(np.bincount(listing.labels, minlength=len(listing.classes)).tolist())


def csv_rows(path: Path) -> list[list[str]]:
    """The lines of a CSV, its header too.

    Raises:
        InputError: it can't be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} can't be read as a CSV in UTF-8: {error}") from error
