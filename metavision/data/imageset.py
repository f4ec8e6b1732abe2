"""What the data sets of the catalogue have in common: found in any layout, decoded once, split by frozen lists."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from metavision.data.decode import Decoder, Filter, Fit
from metavision.data.download import Archive, fetched, verify
from metavision.data.listing import Listing, counts
from metavision.data.pack import Pack, pack_folder, packed
from metavision.data.source import Source, pick
from metavision.errors import InputError

SPLITS = ("train", "val", "test")
Layout = tuple[Path, Callable[[], Listing]]
Members = Mapping[str, np.ndarray]  # class -> its images, as indices into a pack


@dataclass(frozen=True)
class Card:
    """What is known of a data set.

    Args:
        title: its name in full.
        address: where it officially is.
        licence: as its authors state it.
        place: what to put where, for a person who has none of it.
        classes: how many there are; None: any number.
        images: how many there are; None: any number.
        size: side of an image in pixels, unless told otherwise.
        color: rgb or grey, unless told otherwise.
        split: classes of train, val and test, in words.
        archives: files that it can be downloaded as; empty where there is no address that a program may use.
    """

    title: str
    address: str
    licence: str
    place: str
    classes: int | None
    images: int | None
    size: int
    color: Literal["rgb", "grey"] = "rgb"
    split: str = "all test"
    archives: tuple[Archive, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ImageSet(ABC):
    """A data set of image files or arrays.

    Args:
        root: folder in which data sets lie, each in a folder of its own.
        size: images are made size x size; None: the usual size of this set.
        color: rgb or grey; None: as is usual for this set.
        fit: squash to a square, or crop the middle of the longer side.
        resample: the filter by which images are resized.
        download: fetch what is not there, where the set can be had from a public address.
        skip_corrupt: leave out images that can't be read.
    """

    root: str
    size: int | None = None
    color: Literal["rgb", "grey"] | None = None
    fit: Fit = "crop"
    resample: Filter = "bilinear"
    download: bool = True
    skip_corrupt: bool = False

    name: ClassVar[str]
    pack_name: ClassVar[str] = ""  # of the pixels, which several sets may share; empty: as the set
    family: ClassVar[str] = ""  # sets of one family name their classes alike, so that a shared class is known as one
    card: ClassVar[Card]
    folders: ClassVar[tuple[str, ...]]  # names under which its folder is found below root
    recipe: ClassVar[int] = 1  # to be raised with any change of what is packed
    invert: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _ = self.decoder

    def __str__(self) -> str:
        """Its name and the name of its split."""
        return " ".join(filter(None, (self.name, getattr(self, "split", ""))))

    @property
    def decoder(self) -> Decoder:
        size = self.card.size if self.size is None else self.size
        color = self.color or self.card.color
        return Decoder(size, color, self.fit, self.resample, self.invert)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.decoder.shape

    @abstractmethod
    def layouts(self) -> Iterator[Layout]:
        """Where data is, quickly found out, and what it consists of, found out when called."""

    @abstractmethod
    def members(self, pack: Pack) -> Mapping[str, Members]:
        """Split -> class -> images."""

    def group(self, name: str) -> str | None:  # noqa: ARG002
        """The group of a class: its alphabet, its superclass."""
        return None

    def source(self, split: str) -> Source:
        pack = self.pack()
        found = self.source_of(pack, pick(self.members(pack), split, self.name), split)
        pack.remember(f"{self} {split}", found.fingerprint)
        return found

    def source_of(self, pack: Pack, members: Members, split: str) -> Source:
        """The source of a split, from its classes."""
        index = np.concatenate([*members.values(), np.zeros(0, np.int64)])
        labels = np.repeat(np.arange(len(members)), [len(images) for images in members.values()])
        groups = [self.group(name) for name in members]
        return Source(
            self.name,
            split,
            pack.images,
            labels,
            tuple(members),
            rows=pack.rows[index],
            digests=pack.digests[index],
            keys=tuple(f"{self.name if is_number(name) else self.family or self.name}:{name}" for name in members),
            groups=None if None in groups else tuple(str(group) for group in groups),
        )

    def pack(self) -> Pack:
        """All of its images, decoded on first use.

        Raises:
            InputError: the data is not here, not whole, or can't be read.
        """
        return self._pack

    @cached_property
    def _pack(self) -> Pack:
        return packed(
            self.pack_name or self.name, self.version(), self.listing, self.decoder, skip_corrupt=self.skip_corrupt
        )

    def version(self) -> dict[str, Any]:
        """What the pixels depend on beside the decoder."""
        return {"recipe": self.recipe}

    def is_packed(self) -> bool:
        return self.packed_in().is_dir()

    def packed_in(self) -> Path:
        """Where its pack is, or would be."""
        version = {**self.version(), **self.decoder.__dict__, "skip_corrupt": self.skip_corrupt}
        return pack_folder(self.pack_name or self.name, version)

    def found(self) -> Layout | None:
        """The first layout that is here."""
        return next(self.layouts(), None)

    def listing(self) -> Listing:
        """Its images, found or fetched, and counted."""
        layout = self.found()
        if layout is None:
            self.fetch()
            layout = self.found()
        if layout is None:
            raise InputError(f"{self.card.title} is not below {Path(self.root).absolute()}; {self.advice}")
        place, read = layout
        for archive in self.card.archives:
            if (path := place if place.name == archive.name else place / archive.name).is_file():
                verify(path, archive)
        listing = read()
        self.check(listing, place)
        return listing

    def fetch(self) -> None:
        """Downloads the archives that are not there."""
        for archive in self.card.archives:
            fetched(self.card.title, archive, self.home, advice=self.advice, download=self.download)

    @property
    def advice(self) -> str:
        """What to do where the data is missing."""
        return f"place {self.card.place} in {self.home} (from {self.card.address}), or set data.root or METAVISION_DATA"

    @property
    def home(self) -> Path:
        """The folder of its own below root."""
        return Path(self.root) / self.folders[0]

    def places(self, *, itself: bool = False) -> Iterator[Path]:
        """Folders in which it may be, those that exist; `itself`: root too."""
        candidates = [Path(self.root) / name for name in self.folders]
        yield from (path for path in ([*candidates, Path(self.root)] if itself else candidates) if path.is_dir())

    def expected(self) -> tuple[int | None, int | None]:
        """How many classes and images its files hold."""
        return self.card.classes, self.card.images

    def check(self, listing: Listing, place: Path) -> None:
        """Raises InputError where classes or images are missing or too many."""
        found = (len(listing.classes), len(listing.names))
        expected = self.expected()
        if any(want is not None and have != want for have, want in zip(found, expected, strict=True)):
            wanted = [f"{n} {what}" for n, what in zip(expected, ("classes", "images"), strict=True) if n is not None]
            sizes = ", ".join(f"{n} of {size}" for size, n in counts(listing).most_common(3))
            raise InputError(
                f"{self.card.title} in {place} has {found[1]} images of {found[0]} classes (the most: {sizes} images); "
                f"it should have {' and '.join(wanted)}"
            )


def frozen(name: str) -> dict[str, list[str]]:
    """The class lists of a published split, as kept in the package: split -> names."""
    return {split: [line.split()[0] for line in lines] for split, lines in frozen_lines(name).items()}


def frozen_lines(name: str) -> dict[str, list[str]]:
    """The same with what stands behind a name, which is its group."""
    folder = resources.files("metavision.data") / "splits" / name
    return {split: (folder / f"{split}.txt").read_text(encoding="utf-8").splitlines() for split in SPLITS}


def is_number(name: str) -> bool:
    """Whether a class is known by its number in a split only, `train/3`: no other set's class is called so."""
    split, _, number = name.partition("/")
    return split in SPLITS and number.isdecimal()


def by_class(pack: Pack) -> dict[str, np.ndarray]:
    """Class -> its images."""
    bounds = np.searchsorted(pack.labels, np.arange(len(pack.classes) + 1))
    return {name: np.arange(bounds[c], bounds[c + 1]) for c, name in enumerate(pack.classes)}


def by_lists(pack: Pack, lists: Mapping[str, Sequence[str]], title: str) -> dict[str, Members]:
    """Split -> class -> images, by lists of classes.

    Raises:
        InputError: a class of a list is not there, or in two lists.
    """
    images = by_class(pack)
    where: dict[str, str] = {}
    for split, names in lists.items():
        for name in names:
            if name not in images or not len(images[name]):
                raise InputError(f"{title} lacks class {name} of its split {split}")
            if (other := where.setdefault(name, split)) != split:
                raise InputError(f"class {name} of {title} is in {other} and in {split}; a class must be in one split")
    return {split: {name: images[name] for name in names} for split, names in lists.items()}


def unseen(images: Members) -> dict[str, Members]:
    """Every class is a test class: for sets without a published few-shot split, which serve as unseen domains."""
    return {"test": images}
