"""Sets of ten classes: unseen domains for a few-shot learner, and the ten-class tasks of tutorials."""

import gzip
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from metavision.data.download import Archive
from metavision.data.files import open_files
from metavision.data.imageset import Card, ImageSet, Layout, Members, by_class, unseen
from metavision.data.layouts import archives, tree
from metavision.data.listing import Listing, merged, of_arrays
from metavision.data.pack import Pack
from metavision.data.pickles import load_pickle
from metavision.data.source import Source
from metavision.errors import InputError

IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
PARTS = ("train", "test")  # of the official division; a class is packed as `train/cat` and `test/cat`


@dataclass(frozen=True, kw_only=True)
class TenClasses(ImageSet):
    """A set with an official division of its images, and the same ten classes on either side.

    Args:
        split: `unseen`: all classes are test classes, of all images; or `images`: train, val and test have the same
            classes and other images (val: the last sixth of each class's training images), as in ordinary
            classification; results of such runs are marked, since no class is new to the network.
    """

    split: Literal["unseen", "images"] = "unseen"

    def members(self, pack: Pack) -> Mapping[str, Members]:
        images = by_class(pack)
        names = sorted({name.partition("/")[2] for name in images})
        train, test = ({name: images[f"{part}/{name}"] for name in names} for part in PARTS)
        if self.split == "unseen":
            return unseen({name: np.concatenate([train[name], test[name]]) for name in names})
        kept = {name: len(index) - len(index) // 6 for name, index in train.items()}
        return {
            "train": {name: index[: kept[name]] for name, index in train.items()},
            "val": {name: index[kept[name] :] for name, index in train.items()},
            "test": test,
        }

    def expected(self) -> tuple[int | None, int | None]:
        return 10 * len(PARTS), self.card.images

    def source_of(self, pack: Pack, members: Members, split: str) -> Source:
        return replace(super().source_of(pack, members, split), shared=self.split == "images")


@dataclass(frozen=True, kw_only=True)
class Idx(TenClasses):
    """A set in MNIST's format of files."""

    names: ClassVar[tuple[str, ...]]

    def layouts(self) -> Iterator[Layout]:
        for place in self.places():
            for folder in (place / "raw", place):
                if _idx(folder, "train-images-idx3-ubyte") and _idx(folder, "t10k-images-idx3-ubyte"):
                    yield folder, partial(self._listed, folder)

    def _listed(self, folder: Path) -> Listing:
        parts = []
        for part, prefix in zip(PARTS, ("train", "t10k"), strict=True):
            images = read_idx(folder, f"{prefix}-images-idx3-ubyte", 3)
            labels = read_idx(folder, f"{prefix}-labels-idx1-ubyte", 1)
            if len(images) != len(labels) or labels.max(initial=0) >= len(self.names):
                raise InputError(f"{folder} has {len(images)} images and {len(labels)} labels for {part}")
            parts.append(of_arrays(images, (f"{part}/{self.names[label]}" for label in labels), origin=prefix))
        return merged(parts)


def _card(title: str, address: str, licence: str, mirror: str, *md5: str) -> Card:
    """Of a set of four files, in the order of IDX."""
    return Card(
        title=title,
        address=address,
        licence=licence,
        place="the four files train-images-idx3-ubyte, … (or .gz), themselves or below raw/,",
        classes=10,
        images=70000,
        size=28,
        color="grey",
        archives=tuple(Archive(f"{name}.gz", f"{mirror}/{name}.gz", m) for name, m in zip(IDX, md5, strict=True)),
    )


@dataclass(frozen=True, kw_only=True)
class MNIST(Idx):
    """70,000 handwritten digits, 28 x 28.

    Reference:
        Gradient-based learning applied to document recognition (LeCun et al., 1998), http://yann.lecun.com/exdb/mnist/
    """

    name: ClassVar = "mnist"
    folders: ClassVar = ("MNIST", "mnist")
    names: ClassVar = tuple("0123456789")
    card: ClassVar = _card(
        "MNIST",
        "http://yann.lecun.com/exdb/mnist/",
        "CC BY-SA 3.0, as commonly given",
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    )


@dataclass(frozen=True, kw_only=True)
class FashionMNIST(Idx):
    """70,000 articles of clothing, 28 x 28.

    Reference:
        Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms (Xiao et al., 2017),
        https://github.com/zalandoresearch/fashion-mnist
    """

    name: ClassVar = "fashionmnist"
    folders: ClassVar = ("FashionMNIST", "fashionmnist", "fashion-mnist")
    names: ClassVar = (
        "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    )  # fmt: skip
    card: ClassVar = _card(
        "Fashion-MNIST",
        "https://github.com/zalandoresearch/fashion-mnist",
        "MIT",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    )


@dataclass(frozen=True, kw_only=True)
class CIFAR10(TenClasses):
    """60,000 images, 32 x 32.

    Reference:
        Learning Multiple Layers of Features from Tiny Images (Krizhevsky, 2009),
        https://www.cs.toronto.edu/~kriz/cifar.html
    """

    name: ClassVar = "cifar10"
    folders: ClassVar = ("cifar10", "cifar-10-batches-py", "CIFAR10", "cifar-10")
    card: ClassVar = Card(
        title="CIFAR-10",
        address="https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="none stated; a citation of Krizhevsky (2009) is asked for",
        place="cifar-10-python.tar.gz, its folder, or train/ and test/ with a folder for each class,",
        classes=10,
        images=60000,
        size=32,
        archives=(
            Archive(
                "cifar-10-python.tar.gz",
                "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                "c58f30108f718f92721af3b95e74349a",
            ),
        ),
    )

    def layouts(self) -> Iterator[Layout]:
        for place in self.places(itself=True):
            for folder in (place, place / "cifar-10-batches-py"):
                if (folder / "data_batch_1").is_file() and (folder / "test_batch").is_file():
                    yield folder, partial(_batches, folder)
            if parts := archives(place, r"cifar-10-python"):
                yield parts[0], partial(_batches, parts[0])
        for place in self.places():
            if all((place / part).is_dir() for part in PARTS):
                yield place, partial(tree, [place], _in_part)


def _in_part(name: str) -> str | None:
    parts = name.split("/")
    return f"{parts[-3]}/{parts[-2]}" if len(parts) >= 3 and parts[-3] in PARTS else None


def _batches(place: Path) -> Listing:
    """CIFAR-10's official pickles, in a folder or archive."""
    files = open_files(place)
    names = [n for n in files.names() if n.rpartition("/")[2].startswith(("data_batch_", "test_batch", "batches.meta"))]
    found = {names[i].rpartition("/")[2]: load_pickle(content, names[i]) for i, content in files.read(names)}
    if "batches.meta" not in found:
        raise InputError(f"{place} lacks batches.meta")
    try:
        classes = found.pop("batches.meta")["label_names"]
        return merged([_arrays(batch, name, classes) for name, batch in sorted(found.items())])
    except (LookupError, ValueError, TypeError) as error:
        raise InputError(f"{place} holds other pickles than CIFAR-10's: {error!r}") from error


def _arrays(batch: Mapping[str, Any], name: str, classes: list[str]) -> Listing:
    part = "test" if name == "test_batch" else "train"
    pixels = np.asarray(batch["data"], np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return of_arrays(pixels, (f"{part}/{classes[label]}" for label in batch["labels"]), origin=name)


def _idx(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def read_idx(folder: Path, name: str, dimensions: int) -> np.ndarray:
    """An array of bytes in the format of MNIST: magic number, sizes, then the values.

    Raises:
        InputError: it is missing, cut short, or of another kind.
    """
    if (path := _idx(folder, name)) is None:
        raise InputError(f"{folder} lacks {name}")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        magic, *shape = struct.unpack_from(f">{1 + dimensions}I", content)
        assert magic == 0x800 + dimensions, f"its magic number is {magic}, not {0x800 + dimensions}"
        return np.frombuffer(content, np.uint8, offset=4 * (1 + dimensions)).reshape(shape)
    except (OSError, EOFError, ValueError, AssertionError, struct.error, zlib.error) as error:
        raise InputError(f"{path} is damaged: {error}") from error
