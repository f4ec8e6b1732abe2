"""A user's labelled images: a folder for each class."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from metavision.classify.preparing import Preparing
from metavision.console import progress_bar
from metavision.data.decode import SUFFIXES
from metavision.data.files import hidden, open_files
from metavision.data.listing import Listing, of_classes
from metavision.data.pack import in_parallel
from metavision.data.sources.folder import of_csv, of_folders
from metavision.errors import InputError


class Photos(NamedTuple):
    """Images that could be read, sorted by class and name.

    Args:
        classes: their names.
        names: (n,) from the folder on.
        y: (n,) int64, an index into `classes`.
        pixels: (n, C, H, W) uint8.
        skipped: what was left out, and why, by name.
    """

    classes: tuple[str, ...]
    names: tuple[str, ...]
    y: np.ndarray
    pixels: np.ndarray
    skipped: dict[str, str]


def listed(place: Path, *, least: int = 2) -> Listing:
    """The images of a folder of class folders, an archive of such, or a CSV (file, class).

    Args:
        place: where they are. A folder that holds images itself and no other folder is one class, named as it is.
        least: classes.

    Raises:
        InputError: there is nothing of the kind, a class is empty, or there are too few.
    """
    if not place.exists():
        raise InputError(
            f"there is nothing at {place}; a folder is needed that holds a folder of images for each class"
        )
    one = _one_class(place) if least == 1 else None
    listing = one or (of_csv if place.suffix.lower() == ".csv" else of_folders)(place)
    if len(listing.classes) < least:
        raise InputError(
            f"{place} has one class, {listing.classes[0]}; at least 2 are needed to tell apart, a folder of images each"
        )
    return listing


def _one_class(place: Path) -> Listing | None:
    """The images that lie in a folder itself, if it is the folder of one class."""
    if not place.is_dir() or any(child.is_dir() and not hidden(child.name) for child in place.iterdir()):
        return None
    files = open_files(place)
    images = [name for name in files.names() if name.lower().endswith(SUFFIXES)]
    return of_classes(files, {place.absolute().name: images}) if images else None


def read(listing: Listing, preparing: Preparing, place: Path) -> Photos:
    """Decodes all images; those that can't be read, and copies of an image in one class, are left out and listed.

    A copy would be asked about by its twin, and make the estimate too good.

    Raises:
        InputError: a class has none left.
    """
    n = len(listing.names)
    pixels = np.zeros((n, *preparing.shape), np.uint8)
    faults: dict[int, str] = {}

    def decode(item: tuple[int, object]) -> int:
        row, content = item
        try:
            pixels[row] = preparing.pixels(content)  # type: ignore[arg-type]
        except ValueError as error:
            faults[row] = f"can't be read: {' '.join(str(error).split())}"
        return 1

    with progress_bar(f"reading {place.name}", n, "images") as advance:
        for done in in_parallel(decode, listing.read()):
            advance(done)
    faults |= dict(_copies(listing, pixels, faults))
    kept = np.array([row for row in range(n) if row not in faults], np.int64)
    skipped = {listing.names[row]: why for row, why in sorted(faults.items())}
    for c, name in enumerate(listing.classes):
        if not (listing.labels[kept] == c).any():
            first = next(listing.names[row] for row in range(n) if listing.labels[row] == c)
            raise InputError(f"class {name} of {place} has no image that can be read: {first} {skipped[first]}")
    names = tuple(listing.names[row] for row in kept)
    return Photos(listing.classes, names, listing.labels[kept].astype(np.int64), pixels[kept], skipped)


def _copies(listing: Listing, pixels: np.ndarray, faults: dict[int, str]) -> Iterator[tuple[int, str]]:
    first: dict[tuple[int, bytes], int] = {}
    for row, label in enumerate(listing.labels):
        if row not in faults and (twin := first.setdefault((int(label), pixels[row].tobytes()), row)) != row:
            yield row, f"is a copy of {listing.names[twin]}"
