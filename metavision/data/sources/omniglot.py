"""Omniglot: 1,623 handwritten characters of 50 alphabets, each drawn by 20 people."""

import io
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from random import Random
from typing import Literal

import numpy as np
from PIL import Image

from metavision.data.download import Archive, fetched
from metavision.data.pack import Packed, packed
from metavision.data.source import Source, pick
from metavision.errors import InputError

ADDRESS = "https://github.com/brendenlake/omniglot/raw/master/python"
ARCHIVES = (
    Archive("images_background.zip", f"{ADDRESS}/images_background.zip", "68d2efa1b9178cc56df9314c21c6e718"),
    Archive("images_evaluation.zip", f"{ADDRESS}/images_evaluation.zip", "6b91aef0f799c5bb55b94e3f2daec811"),
)
PARTS = {"images_background": 964, "images_evaluation": 659}  # characters
DRAWINGS = 20
TURNS = (0, 90, 180, 270)
RECIPE = "1"  # of the packed pixels


@dataclass(frozen=True)
class Omniglot:
    """Characters and their rotations by quarter turns as classes; ink is bright, paper is 0.

    Reference:
        Human-level concept learning through probabilistic program induction (Lake et al., 2015),
        https://github.com/brendenlake/omniglot, MIT licence.

    Args:
        root: folder that holds the two official archives, or the folders they unpack to, themselves or below
            `omniglot-py/` or `omniglot/`.
        split: `vinyals`, of Matching Networks and Prototypical Networks: 1,028/172/423 characters; or `finn`, as in
            MAML: 1,200/100/323 characters at random (our own draw: his depended on the order of a folder listing, and
            turned each class of an episode at random where we have the four turns as classes).
        size: images are resized to size x size by area averaging.
        download: fetch the archives if they are not there.
    """

    root: str
    split: Literal["vinyals", "finn"] = "vinyals"
    size: int = 28
    download: bool = True

    def __post_init__(self) -> None:
        if not 8 <= self.size <= 105:
            raise InputError(f"data.size is {self.size}; Omniglot's drawings of 105 pixels can be had in 8 to 105")

    @property
    def name(self) -> str:
        return "omniglot"

    @property
    def shape(self) -> tuple[int, int, int]:
        return 1, self.size, self.size

    def source(self, split: str) -> Source:
        drawings = packed("omniglot", f"{RECIPE} {self.size}", self._decode)
        names = pick(splits(drawings.classes, self.split), split, f"omniglot ({self.split})")
        index = {name: c for c, name in enumerate(drawings.classes)}
        upright = np.stack([drawings.images[drawings.labels == index[name]] for name in names])  # (c, 20, 1, H, W)
        turned = np.stack([np.rot90(upright, turn // 90, axes=(3, 4)) for turn in TURNS], axis=1)
        classes = tuple(f"{name}/rot{turn:03d}" for name in names for turn in TURNS)
        labels = np.repeat(np.arange(len(classes)), DRAWINGS)
        return Source("omniglot", split, turned.reshape(-1, *self.shape), labels, classes)

    def _decode(self) -> Packed:
        images, classes = [], []
        for part, characters in PARTS.items():
            found = _drawings(_place(Path(self.root), part, download=self.download), part)
            if len(found) != characters:
                raise InputError(
                    f"{part} of Omniglot below {self.root} has {len(found)} characters; it should have {characters}"
                )
            for name, files in sorted(found.items()):
                if len(files) != DRAWINGS:
                    raise InputError(f"{name} of Omniglot has {len(files)} drawings; it should have {DRAWINGS}")
                images += [self._pixels(content, f"{name}/{file}") for file, content in sorted(files.items())]
                classes.append(name)
        labels = np.repeat(np.arange(len(classes)), DRAWINGS)
        return Packed(np.stack(images)[:, None], labels, tuple(classes))

    def _pixels(self, content: bytes, name: str) -> np.ndarray:
        try:
            with Image.open(io.BytesIO(content)) as image:
                paper = image.convert("L").resize((self.size, self.size), Image.Resampling.BOX)
        except (OSError, EOFError) as error:
            raise InputError(f"Omniglot's drawing {name} can't be read: {error}") from error
        return 255 - np.asarray(paper)


def splits(classes: tuple[str, ...], split: str) -> dict[str, list[str]]:
    """Characters of train, val and test, by the name of a split."""
    if split == "finn":
        shuffled = sorted(classes)
        Random(1).shuffle(shuffled)
        return {"train": shuffled[:1200], "val": shuffled[1200:1300], "test": shuffled[1300:]}
    lists = resources.files("metavision.data") / "splits" / "omniglot-vinyals"
    return {name: (lists / f"{name}.txt").read_text().split() for name in ("train", "val", "test")}


def _place(root: Path, part: str, *, download: bool) -> Path:
    """The folder or archive of a part."""
    below = [root, root / "omniglot-py", root / "omniglot"]
    for folder in below:
        if (folder / part).is_dir():
            return folder / part
    archive = next(archive for archive in ARCHIVES if archive.name == f"{part}.zip")
    return fetched("Omniglot", archive, below, unpacked=part, download=download)


def _drawings(place: Path, part: str) -> dict[str, dict[str, bytes]]:
    """Alphabet/character -> file name -> content, of a folder or a zip."""
    drawings: dict[str, dict[str, bytes]] = defaultdict(dict)
    for path, content in _zipped(place) if place.is_file() else _unpacked(place, part):
        *above, alphabet, character, file = path.split("/")
        if above == [part]:  # not the `__MACOSX` copies
            drawings[f"{alphabet}/{character}"][file] = content
    return drawings


def _unpacked(folder: Path, part: str) -> Iterator[tuple[str, bytes]]:
    for path in folder.glob("*/*/*.png"):
        yield f"{part}/{path.relative_to(folder).as_posix()}", path.read_bytes()


def _zipped(archive: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(archive) as file:
            for name in file.namelist():
                if name.count("/") == 3 and name.endswith(".png"):
                    yield name, file.read(name)
    except (zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"{archive} is not a whole zip archive: {error}; remove it to fetch it again") from error
