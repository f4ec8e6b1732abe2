"""CIFAR-100 and the two few-shot benchmarks made of it: CIFAR-FS and FC100."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from metavision.data.download import Archive
from metavision.data.files import open_files
from metavision.data.imageset import Card, ImageSet, Layout, Members, by_lists, frozen
from metavision.data.layouts import archives, numbered, pickled, tree
from metavision.data.listing import Listing, merged, of_arrays
from metavision.data.pack import Pack
from metavision.data.pickles import load_pickle
from metavision.errors import InputError

TARBALL = Archive(
    "cifar-100-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    "eb9058c3a382ffc7106e4002c42a8d85",
)
BATCHES = ("train", "test", "meta")


@dataclass(frozen=True, kw_only=True)
class Cifar100(ImageSet):
    """All 600 images of each of the 100 classes, 32 x 32: the pixels of both benchmarks."""

    family: ClassVar = "cifar100"
    folders: ClassVar = ("cifar100", "cifar-100-python", "cifarfs", "cifar-fs", "CIFAR-FS", "fc100", "FC100")
    pickles: ClassVar[tuple[str, ...]]

    @property
    def pack_name(self) -> str:  # type: ignore[override]
        """Both benchmarks share the pixels, unless they come as pickles of one, whose classes have no names."""
        return self.name if not any(self._named()) and any(self._numbered()) else "cifar100"

    def layouts(self) -> Iterator[Layout]:
        yield from self._named()
        yield from self._numbered()

    def _named(self) -> Iterator[Layout]:
        for place in self.places(itself=True):
            for folder in (place, place / "cifar-100-python"):
                if all((folder / name).is_file() for name in BATCHES):
                    yield folder, partial(_official, folder)
            if (tarball := place / TARBALL.name).is_file():
                yield tarball, partial(_official, tarball)
        for place in self.places():
            for folder in (place / "processed", place / "cifar100" / "data", place / "data", place):
                if any(folder.glob("apple/*.png")) or any(folder.glob("*/apple/*.png")):
                    yield folder, partial(tree, [folder], _class_of)
        for place in self.places(itself=True):
            if parts := archives(place, r"(cifar[-_]?100|cifar[-_]?fs)"):
                yield parts[0], partial(tree, parts[:1], _class_of)

    def _numbered(self) -> Iterator[Layout]:
        for place in self.places(itself=True):
            yield from pickled(place, self.pickles)

    def group(self, name: str) -> str | None:
        return coarse().get(name)


@dataclass(frozen=True, kw_only=True)
class CifarFS(Cifar100):
    """64/16/20 classes of CIFAR-100, at random.

    Reference:
        Meta-learning with differentiable closed-form solvers (Bertinetto et al., 2019),
        https://arxiv.org/abs/1805.08136
    """

    name: ClassVar = "cifarfs"
    pickles: ClassVar = ("CIFAR_FS_{}.pickle",)
    card: ClassVar = Card(
        title="CIFAR-FS",
        address="https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="none stated; a citation of Krizhevsky (2009) is asked for",
        place="cifar-100-python.tar.gz, its folder, a folder data/ with a folder of PNGs for each class, "
        "or CIFAR_FS_{train,val,test}.pickle,",
        classes=100,
        images=60000,
        size=32,
        split="64/16/20",
        archives=(TARBALL,),
    )

    def members(self, pack: Pack) -> Mapping[str, Members]:
        return numbered(pack) or by_lists(pack, frozen("cifarfs"), self.card.title)


@dataclass(frozen=True, kw_only=True)
class FC100(Cifar100):
    """60/20/20 classes of 12/4/4 superclasses of CIFAR-100, so that test classes are far from training.

    Reference:
        TADAM: Task dependent adaptive metric for improved few-shot learning (Oreshkin et al., 2018),
        https://arxiv.org/abs/1805.10123
    """

    name: ClassVar = "fc100"
    pickles: ClassVar = ("FC100_{}.pickle",)
    card: ClassVar = Card(
        title="FC100",
        address="https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="none stated; a citation of Krizhevsky (2009) is asked for",
        place="cifar-100-python.tar.gz, its folder, a folder data/ with a folder of PNGs for each class, "
        "or FC100_{train,val,test}.pickle,",
        classes=100,
        images=60000,
        size=32,
        split="60/20/20",
        archives=(TARBALL,),
    )

    def members(self, pack: Pack) -> Mapping[str, Members]:
        return numbered(pack) or by_lists(pack, frozen("fc100"), self.card.title)


@cache
def coarse() -> dict[str, str]:
    """Class -> superclass."""
    text = (resources.files("metavision.data") / "splits" / "cifar100.txt").read_text(encoding="utf-8")
    return dict(line.split() for line in text.splitlines())


def _class_of(name: str) -> str | None:
    """The class of an image in a class's folder."""
    folder = name.split("/")[-2] if "/" in name else ""
    return folder if folder in coarse() else None


def _official(place: Path) -> Listing:
    """Of the folder `cifar-100-python`, or its archive."""
    batches = dict(_batches(place))
    if missing := set(BATCHES) - batches.keys():
        raise InputError(f"{place} lacks {', '.join(sorted(missing))}")
    try:
        names = batches["meta"]["fine_label_names"]
        return merged(
            [arrays(batches[part], names, "fine_labels", f"{place.name}/{part}") for part in ("train", "test")]
        )
    except (LookupError, ValueError, TypeError) as error:
        raise InputError(f"{place} holds other pickles than CIFAR-100's: {error!r}") from error


def _batches(place: Path) -> Iterator[tuple[str, Any]]:
    files = open_files(place)
    names = [name for name in files.names() if name.rpartition("/")[2] in BATCHES]
    for i, content in files.read(names):
        yield names[i].rpartition("/")[2], load_pickle(content, f"{names[i]} of {place}")


def arrays(batch: Mapping[str, Any], names: list[str], labels: str, origin: str) -> Listing:
    """The images of an official batch: rows of 3,072 bytes, channel by channel."""
    pixels = np.asarray(batch["data"], np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return of_arrays(pixels, (names[label] for label in batch[labels]), origin=origin)
