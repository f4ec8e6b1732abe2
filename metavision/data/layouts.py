"""Ways in which few-shot data sets lie on disks."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from metavision.data.files import open_files
from metavision.data.imageset import SPLITS, Layout, Members, by_class, is_number
from metavision.data.listing import Listing, merged, of_arrays, of_files
from metavision.data.pack import Pack
from metavision.data.pickles import load_pickle
from metavision.errors import InputError

SPELLINGS = {"train": ("train", "train_phase_train"), "val": ("val", "validation"), "test": ("test",)}
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def named(pattern: str) -> Callable[[str], str | None]:
    """The class of a file by a pattern in its path, whose first group it is."""
    compiled = re.compile(pattern)

    def class_of(name: str) -> str | None:
        match = compiled.search(name)
        return match[1] if match else None

    return class_of


# ImageNet's: of the folder `n01532829/`, or, in a folder of all images, of the file `n0153282900000005.jpg`.
WNID = r"(?:^|/)(n\d{8})(?=/|\d{8}\.|_)"


def tree(places: Sequence[Path], class_of: Callable[[str], str | None]) -> Listing:
    """All images in some folders or archives together."""
    opened = [open_files(place) for place in places]
    return merged([of_files(files, files.names(), class_of) for files in opened])


def archives(place: Path, pattern: str) -> list[Path]:
    """The archives in a folder with a name (without its suffix) that matches, whatever the case."""
    if not place.is_dir():
        return []
    wanted = re.compile(pattern, re.IGNORECASE)
    stems = ((path, _stem(path.name)) for path in sorted(place.iterdir()))
    return [path for path, stem in stems if stem is not None and wanted.fullmatch(stem) and path.is_file()]


def _stem(name: str) -> str | None:
    return next((name.removesuffix(suffix) for suffix in ARCHIVES if name.endswith(suffix)), None)


def split_files(place: Path, patterns: Sequence[str]) -> Iterator[dict[str, Path]]:
    """train, val and test files by patterns such as `FC100_{}.pickle`; val may be called validation."""
    for pattern in patterns:
        found = {}
        for split in SPLITS:
            paths = (place / pattern.format(spelling) for spelling in SPELLINGS[split])
            if path := next((path for path in paths if path.is_file()), None):
                found[split] = path
        if len(found) == len(SPLITS):
            yield found


def pickled(place: Path, patterns: Sequence[str]) -> Iterator[Layout]:
    """Pickles of arrays, one a split, as learn2learn and MetaOptNet have them."""
    for files in split_files(place, patterns):
        yield place, partial(_unpickled, files)


def _unpickled(files: Mapping[str, Path]) -> Listing:
    contents = ((path, _arrays(load_pickle(path), split, path)) for split, path in files.items())
    return merged([of_arrays(images, labels, origin=path.name) for path, (images, labels) in contents])


def _arrays(content: Any, split: str, path: Path) -> tuple[np.ndarray, list[str]]:
    """Images and the class of each; a class that is a number only is called `train/3`."""
    match content:
        case {"image_data": images, "class_dict": members}:
            labels = np.empty(len(images), dtype=object)
            for name, index in members.items():
                labels[np.asarray(index)] = name
            return images, [str(label) for label in labels]
        case {"data": images, "labels": numbers}:
            names = {number: name for name, number in content.get("catname2label", {}).items()}
            return images, [str(names.get(int(number), f"{split}/{int(number)}")) for number in numbers]
    raise InputError(f"{path} holds neither image_data and class_dict nor data and labels")


def numbered(pack: Pack) -> dict[str, Members] | None:
    """Split -> class -> images of a pack made of pickles that number their classes; None: it has names."""
    if not all(map(is_number, pack.classes)):
        return None
    images = by_class(pack)
    return {split: {name: images[name] for name in images if name.startswith(f"{split}/")} for split in SPLITS}
