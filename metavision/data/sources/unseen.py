"""Sets without a published few-shot split: unseen domains, of which every class is a test class."""

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from metavision.data.download import Archive
from metavision.data.files import Content, open_files
from metavision.data.imageset import Card, ImageSet, Layout, Members, by_class, unseen
from metavision.data.layouts import archives, named, tree
from metavision.data.listing import Listing, of_classes
from metavision.data.pack import Pack
from metavision.errors import InputError

OXFORD = "https://www.robots.ox.ac.uk/~vgg/data"


@dataclass(frozen=True, kw_only=True)
class Unseen(ImageSet):
    """A set that serves as an unseen domain."""

    def members(self, pack: Pack) -> Mapping[str, Members]:
        return unseen(by_class(pack))


@dataclass(frozen=True, kw_only=True)
class Aircraft(Unseen):
    """10,000 images of 100 variants of aircraft; a banner of 20 pixels at the bottom names the photographer.

    Reference:
        Fine-Grained Visual Classification of Aircraft (Maji et al., 2013), https://arxiv.org/abs/1306.5151
    """

    name: ClassVar = "aircraft"
    folders: ClassVar = ("fgvc-aircraft-2013b", "aircraft", "fgvc_aircraft")
    card: ClassVar = Card(
        title="FGVC-Aircraft",
        address=f"{OXFORD}/fgvc-aircraft/",
        licence="non-commercial research",
        place="data/ with images/ and images_variant_{trainval,test}.txt, or fgvc-aircraft-2013b.tar.gz,",
        classes=100,
        images=10000,
        size=84,
        archives=(
            Archive("fgvc-aircraft-2013b.tar.gz", f"{OXFORD}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz", None),
        ),
    )

    def layouts(self) -> Iterator[Layout]:
        for place in self.places(itself=True):
            for folder in (place, place / "data", place / "fgvc-aircraft-2013b" / "data"):
                if (folder / "images_variant_test.txt").is_file():
                    yield folder, partial(_aircraft, folder)
            if parts := archives(place, r"fgvc-aircraft-2013b"):
                yield parts[0], partial(_aircraft, parts[0])


@dataclass(frozen=True, kw_only=True)
class Flowers(Unseen):
    """8,189 images of 102 flowers.

    Reference:
        Automated Flower Classification over a Large Number of Classes (Nilsback and Zisserman, 2008),
        https://www.robots.ox.ac.uk/~vgg/data/flowers/102/
    """

    name: ClassVar = "flowers"
    folders: ClassVar = ("flowers-102", "flowers", "vgg_flowers", "flowers102")
    card: ClassVar = Card(
        title="Oxford 102 Flowers",
        address=f"{OXFORD}/flowers/102/",
        licence="none stated",
        place="jpg/ or 102flowers.tgz, and imagelabels.mat,",
        classes=102,
        images=8189,
        size=84,
        archives=(
            Archive("102flowers.tgz", f"{OXFORD}/flowers/102/102flowers.tgz", "52808999861908f626f3c1f4e79d11fa"),
            Archive("imagelabels.mat", f"{OXFORD}/flowers/102/imagelabels.mat", "e0620be6f572b9609742df49c70aed4d"),
        ),
    )

    def layouts(self) -> Iterator[Layout]:
        for place in self.places(itself=True):
            if (place / "imagelabels.mat").is_file():
                pictures = [place / "jpg"] if (place / "jpg").is_dir() else archives(place, "102flowers")
                if pictures:
                    yield place, partial(_flowers, pictures[0], place / "imagelabels.mat")


@dataclass(frozen=True, kw_only=True)
class DTD(Unseen):
    """5,640 images of 47 textures.

    Reference:
        Describing Textures in the Wild (Cimpoi et al., 2014), https://arxiv.org/abs/1311.3618
    """

    name: ClassVar = "dtd"
    folders: ClassVar = ("dtd", "DTD")
    card: ClassVar = Card(
        title="Describable Textures",
        address=f"{OXFORD}/dtd/",
        licence="research",
        place="images/ with a folder for each texture, or dtd-r1.0.1.tar.gz,",
        classes=47,
        images=5640,
        size=84,
        archives=(
            Archive(
                "dtd-r1.0.1.tar.gz", f"{OXFORD}/dtd/download/dtd-r1.0.1.tar.gz", "fff73e5086ae6bdbea199a49dfb8a4c1"
            ),
        ),
    )

    def layouts(self) -> Iterator[Layout]:
        texture = named(r"(?:^|/)([a-z-]+)/\1_\d+\.[^/]+$")  # banded/banded_0002.jpg
        for place in self.places(itself=True):
            for folder in (place / "dtd" / "images", place / "images"):
                if (folder / "banded").is_dir():
                    yield folder, partial(tree, [folder], texture)
            if parts := archives(place, r"dtd-r1\.0\.1"):
                yield parts[0], partial(tree, parts[:1], texture)


@dataclass(frozen=True, kw_only=True)
class QuickDraw(Unseen):
    """Drawings of 345 things, 28 x 28, white on black.

    Reference:
        A Neural Representation of Sketch Drawings (Ha and Eck, 2018), https://arxiv.org/abs/1704.03477;
        data: https://github.com/googlecreativelab/quickdraw-dataset

    Args:
        per_class: drawings kept of a class, from the beginning of its file; there are about 150,000.
    """

    per_class: int = 1000

    name: ClassVar = "quickdraw"
    folders: ClassVar = ("quickdraw", "quick_draw", "QuickDraw")
    card: ClassVar = Card(
        title="Quick, Draw!",
        address="https://github.com/googlecreativelab/quickdraw-dataset",
        licence="CC BY 4.0",
        place="the files <class>.npy of its numpy bitmaps (gs://quickdraw_dataset/full/numpy_bitmap)",
        classes=345,
        images=None,
        size=28,
        color="grey",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.per_class < 2:
            raise InputError(f"data.per_class is {self.per_class}; a class needs 2 drawings at least")

    def version(self) -> dict[str, object]:
        return {**super().version(), "per_class": self.per_class}

    def layouts(self) -> Iterator[Layout]:
        for place in self.places():
            for folder in (place, place / "numpy_bitmap"):
                if found := sorted(folder.glob("*.npy")):
                    yield folder, partial(_bitmaps, found, self.per_class)


def _aircraft(place: Path) -> Listing:
    files = open_files(place)
    names = files.names()
    lists = [
        name for name in names if name.rpartition("/")[2] in ("images_variant_trainval.txt", "images_variant_test.txt")
    ]
    variant: dict[str, str] = {}
    for i, content in files.read(lists):
        for line in _text(content, f"{lists[i]} of {place}").splitlines():
            image, _, name = line.partition(" ")
            variant[image] = name.strip()
    by_variant: dict[str, list[str]] = {}
    for name in names:
        stem = name.rpartition("/")[2].removesuffix(".jpg")
        if name.endswith(".jpg") and stem in variant:
            by_variant.setdefault(variant[stem], []).append(name)
    return of_classes(files, by_variant)


def _text(content: Content, name: str) -> str:
    try:
        return (content if isinstance(content, bytes) else content.read_bytes()).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{name} can't be read as text: {error}") from error


def _flowers(pictures: Path, labels: Path) -> Listing:
    from scipy.io import loadmat

    try:
        numbers = loadmat(io.BytesIO(labels.read_bytes()))["labels"].ravel()
    except Exception as error:  # a damaged file fails in any way
        raise InputError(f"{labels} can't be read: {error}") from error
    files = open_files(pictures)
    by_number: dict[str, list[str]] = {}
    for name in files.names():
        if match := re.search(r"(?:^|/)image_(\d{5})\.jpg$", name):
            number = int(match[1])
            if not 1 <= number <= len(numbers):
                raise InputError(f"{labels} has no label for {name}; it has {len(numbers)}")
            by_number.setdefault(f"{numbers[number - 1]:03d}", []).append(name)
    return of_classes(files, by_number)


def _bitmaps(files: list[Path], per_class: int) -> Listing:
    """A class for each file, opened as a memory map, so that what is not kept is not read."""
    arrays = []
    for path in files:
        try:
            rows = np.load(path, mmap_mode="r", allow_pickle=False)[:per_class]
            arrays.append(rows.reshape(len(rows), 28, 28))
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{path} can't be read as drawings of 784 bytes: {error}") from error
    classes = [path.stem.removeprefix("full_numpy_bitmap_") for path in files]
    labels = np.repeat(np.arange(len(files)), [len(rows) for rows in arrays])
    names = [f"{path.name}[{i}]" for path, rows in zip(files, arrays, strict=True) for i in range(len(rows))]

    def read() -> Iterator[tuple[int, Content | np.ndarray]]:
        return enumerate(np.array(row) for rows in arrays for row in rows)

    return Listing(tuple(classes), labels, names, read)
