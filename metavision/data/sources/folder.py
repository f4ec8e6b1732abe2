"""A user's own images: a folder for each class, with or without split folders, or a CSV of files and classes."""

import hashlib
import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Literal

from metavision.data.decode import SUFFIXES
from metavision.data.files import Files, hidden, open_files
from metavision.data.imageset import SPLITS, Card, ImageSet, Layout, Members, by_class, by_lists, unseen
from metavision.data.listing import Listing, csv_rows, of_classes
from metavision.data.pack import Pack
from metavision.errors import InputError
from metavision.seeds import seed

SPELLINGS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
SHARES = (0.6, 0.2, 0.2)  # of the classes, where the split is ours
LEAST = 5  # classes a split, for the split to be ours


@dataclass(frozen=True, kw_only=True)
class ImageFolder(ImageSet):
    """Images of any kind in folders or an archive; a class is a folder's path below `path`.

    Args:
        path: the folder, a zip or tar archive of it, or a CSV with a header whose columns are a file (its path from the
            CSV's folder), a class, and optionally a split.
        split: `auto`: the split folders train/, val/ (or valid/, validation/) and test/, or the CSV's third column,
            where there are any, else `classes`; `classes`: 60/20/20 % of the classes at random, the same for the same
            names; `none`: all are test classes.
    """

    path: str
    root: str = ""  # stands for nothing: this set lies where it lies
    split: Literal["auto", "classes", "none"] = "auto"

    folders: ClassVar = ()
    card: ClassVar = Card(
        title="a folder of yours",
        address="your own images",
        licence="yours",
        place="a folder for each class",
        classes=None,
        images=None,
        size=84,
        split="by its folders, or 60/20/20 %",
    )

    @property
    def name(self) -> str:  # type: ignore[override]
        return Path(self.path).absolute().name.partition(".")[0] or "folder"

    @property
    def pack_name(self) -> str:  # type: ignore[override]
        return f"folder-{self.name}"

    def layouts(self) -> Iterator[Layout]:
        place = self._place()
        yield place, partial(of_csv if place.suffix.lower() == ".csv" else of_folders, place)

    def _place(self) -> Path:
        if not (place := Path(self.path)).exists():
            raise InputError(f"data.path is {self.path}, which does not exist; needed is a folder of images by class")
        return place

    def version(self) -> dict[str, Any]:
        """Whatever tells that a file was added, removed or changed since it was packed."""
        place = self._place()
        if place.is_file():
            paths = [place, *_listed(place)] if place.suffix.lower() == ".csv" else [place]
        else:
            paths = [place / name for name in open_files(place).names()]
        state = hashlib.blake2b(digest_size=16)
        for path in paths:
            about = path.stat()
            state.update(f"{path.relative_to(place.parent)}\0{about.st_size}\0{about.st_mtime_ns}\0".encode())
        return {"recipe": self.recipe, "place": str(place.resolve()), "state": state.hexdigest()}

    def members(self, pack: Pack) -> Mapping[str, Members]:
        if self.split == "none":
            return unseen(by_class(pack))
        if self.split == "auto" and (given := _given(pack.classes)):
            return by_lists_of_names(pack, given)
        return by_lists(pack, _at_random(pack.classes), self.name)


def by_lists_of_names(pack: Pack, given: Mapping[str, Mapping[str, str]]) -> dict[str, Members]:
    """Split -> class -> images, where a class is packed under another name: `train/cat` is cat of train."""
    where: dict[str, str] = {}
    for split, names in given.items():
        for name in names:
            if (other := where.setdefault(_plain(name), split)) != split:
                raise InputError(
                    f"class {name} is in {other} and in {split}; a class must be in one split alone, "
                    "so that test classes are new"
                )
    images = by_class(pack)
    return {split: {name: images[packed] for name, packed in names.items()} for split, names in given.items()}


def _given(classes: Sequence[str]) -> dict[str, dict[str, str]]:
    """Split -> class -> name in the pack, where all classes are below split folders; nothing, where none is."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    others = []
    for packed in classes:
        first, _, name = packed.partition("/")
        if not name or first.lower() not in SPELLINGS:
            others.append(packed)
        elif (other := found[SPELLINGS[first.lower()]].setdefault(name, packed)) != packed:
            raise InputError(f"{other} and {packed} are one class of one split; merge them")
    if found and others:
        raise InputError(
            f"class {others[0]} is in no split, as others are ({', '.join(found)}); sort all classes into train, val "
            "and test, or set data.split=classes for another split, or data.split=none to test on all of them"
        )
    return {split: found[split] for split in SPLITS if split in found}


def _at_random(classes: Sequence[str]) -> dict[str, list[str]]:
    """Our own split, a function of the names."""
    if len(classes) < LEAST * len(SPLITS):
        raise InputError(
            f"{len(classes)} classes are too few for train, val and test; {LEAST * len(SPLITS)} are needed: "
            "set data.split=none to test on all of them, or sort them into the folders train, val and test"
        )
    shuffled = sorted(classes)
    Random(seed("folder", *shuffled)).shuffle(shuffled)
    first, second = (round(len(shuffled) * share) for share in (SHARES[0], SHARES[0] + SHARES[1]))
    return dict(zip(SPLITS, map(sorted, (shuffled[:first], shuffled[first:second], shuffled[second:])), strict=True))


def of_folders(place: Path) -> Listing:
    """A class for each folder that holds images."""
    files = open_files(place)
    names = files.names()
    by_folder: dict[str, list[str]] = defaultdict(list)
    for name in names:
        folder, _, file = name.rpartition("/")
        by_folder[folder] += [name] if file.lower().endswith(SUFFIXES) else []
    if loose := by_folder.pop("", []):
        raise InputError(f"{loose[0]} lies in {place} itself, not in a folder of its class")
    empty = {folder for folder, images in by_folder.items() if not images} | set(_bare(place))
    for folder in sorted(empty):
        if not any(other.startswith(f"{folder}/") for other in by_folder):
            raise InputError(f"class {folder} of {place} has no image (.jpg, .png, .bmp, …); fill or remove it")
    filled = {folder: images for folder, images in by_folder.items() if images}
    top = _common(list(filled)) if place.is_file() else ""  # an archive often holds one folder that holds all
    return _checked(files, {name.removeprefix(top): images for name, images in filled.items()}, place, len(names))


def _bare(place: Path) -> Iterator[str]:
    """Folders without a single file or folder, which a list of files does not show."""
    for folder, inner, files in os.walk(place):
        inner[:] = [name for name in inner if not hidden(name)]
        if not inner and all(map(hidden, files)) and folder != str(place):
            yield Path(folder).relative_to(place).as_posix()


def _common(folders: list[str]) -> str:
    """What the paths of all folders begin with, where it is not itself a split or class."""
    firsts = {folder.partition("/")[0] for folder in folders}
    first = firsts.pop() if len(firsts) == 1 else ""
    return f"{first}/" if first and first.lower() not in SPELLINGS and all("/" in folder for folder in folders) else ""


def _listed(path: Path) -> Iterator[Path]:
    """The files that a CSV names, of those that are there."""
    yield from (image for row in csv_rows(path)[1:] if (image := path.parent / row[0]).is_file())


def of_csv(path: Path) -> Listing:
    """The images that a CSV lists."""
    rows = csv_rows(path)
    files = open_files(path.parent)
    there = set(files.names())
    by_name: dict[str, list[str]] = defaultdict(list)
    for number, row in enumerate(rows[1:], start=2):
        if len(row) < 2 or not row[1].strip():
            raise InputError(f"line {number} of {path} has no second column; a file and a class are needed")
        if row[0] not in there:
            raise InputError(f"line {number} of {path} names {row[0]}, which is not below {path.parent}")
        split = f"{row[2].strip()}/" if len(row) > 2 and row[2].strip() else ""
        by_name[f"{split}{row[1].strip()}"].append(row[0])
    return _checked(files, by_name, path, len(rows) - 1)


def _plain(name: str) -> str:
    """The same for names that a person, or another file system, takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).strip()


def _checked(files: Files, by_name: Mapping[str, list[str]], place: Path, n: int) -> Listing:
    """The listing, unless there is none, or two classes have one name."""
    if not by_name:
        raise InputError(f"{place} holds no images; {', '.join(SUFFIXES[:4])}, … are looked for in folders by class")
    plain: dict[str, str] = {}
    for name in by_name:
        if (other := plain.setdefault(_plain(name), name)) != name:
            raise InputError(f"{place} has the classes {other!r} and {name!r}, which is one name; merge or rename them")
    kept = sum(len(images) for images in by_name.values())
    return of_classes(files, by_name, ignored=n - kept)
