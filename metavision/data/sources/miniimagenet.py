"""mini-ImageNet: 100 classes of ImageNet, 600 images each, in the two splits that go by this name."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from metavision.data.download import Archive
from metavision.data.files import open_files
from metavision.data.imageset import SPLITS, Card, ImageSet, Layout, Members, by_lists, frozen
from metavision.data.layouts import WNID, archives, named, numbered, pickled, tree
from metavision.data.listing import Listing, csv_rows, of_files
from metavision.data.pack import Pack
from metavision.errors import InputError

ADDRESS = "https://zenodo.org/record/7978538/files"
PICKLES = ("mini-imagenet-cache-{}.pkl", "miniImageNet_category_split_{}.pickle")


@dataclass(frozen=True, kw_only=True)
class MiniImageNet(ImageSet):
    """60,000 images, 84 x 84; 64/16/20 classes as nearly all papers split them.

    Reference:
        Optimization as a Model for Few-Shot Learning (Ravi and Larochelle, 2017),
        https://openreview.net/forum?id=rJY0-Kcll

    The images differ between copies (resized by another filter, saved as JPEG anew), so figures of two copies do too;
    the fingerprint tells copies apart.
    """

    name: ClassVar = "miniimagenet"
    family: ClassVar = "imagenet"
    folders: ClassVar = ("miniimagenet", "mini-imagenet", "mini_imagenet", "miniImageNet", "MiniImagenet")
    card: ClassVar = Card(
        title="mini-ImageNet",
        address="https://github.com/twitter-research/meta-learning-lstm",
        licence="ImageNet's: non-commercial research and education",
        place="images/ (with or without its csv lists), a folder for each class, an archive of either, "
        "or mini-imagenet-cache-{train,validation,test}.pkl,",
        classes=100,
        images=60000,
        size=84,
        split="64/16/20",
        archives=tuple(
            Archive(name, f"{ADDRESS}/{name}", None)
            for name in (f"mini-imagenet-cache-{part}.pkl" for part in ("train", "validation", "test"))
        ),
    )

    def layouts(self) -> Iterator[Layout]:
        for place in self.places():
            if any((place / inner).is_dir() for inner in ("images", "train")) or any(place.glob("n[0-9]*/")):
                yield place, partial(tree, [place], named(WNID))
            if parts := archives(place, r"(mini[-_]?imagenet|images|train|val|test)"):
                yield place, partial(tree, parts, named(WNID))
        for place in self.places(itself=True):
            yield from pickled(place, PICKLES)
        if parts := archives(Path(self.root), r"mini[-_]?imagenet"):
            yield parts[0], partial(tree, parts[:1], named(WNID))

    def members(self, pack: Pack) -> Mapping[str, Members]:
        return numbered(pack) or by_lists(pack, frozen("miniimagenet-ravi"), self.card.title)


@dataclass(frozen=True, kw_only=True)
class MiniImageNetVinyals(ImageSet):
    """The split of Matching Networks: other classes of ImageNet, 60/20/20, given as lists of ImageNet's own files.

    Reference:
        Matching Networks for One Shot Learning (Vinyals et al., 2016), https://arxiv.org/abs/1606.04080
    """

    name: ClassVar = "miniimagenet_vinyals"
    family: ClassVar = "imagenet"
    folders: ClassVar = ("miniimagenet-vinyals", "miniimagenet_vinyals", "mini-imagenet-vinyals")
    card: ClassVar = Card(
        title="mini-ImageNet (Vinyals)",
        address="https://github.com/renmengye/few-shot-ssl-public",
        licence="ImageNet's: non-commercial research and education",
        place="train.csv, val.csv and test.csv (columns filename, class) and the images they list, in any folders,",
        classes=100,
        images=60000,
        size=84,
        split="60/20/20",
    )

    def layouts(self) -> Iterator[Layout]:
        for place in self.places():
            lists = [place / f"{split}.csv" for split in SPLITS]
            if all(path.is_file() for path in lists):
                yield place, partial(_listed, place, lists)

    def members(self, pack: Pack) -> Mapping[str, Members]:
        return by_lists(pack, frozen("miniimagenet-vinyals"), self.card.title)


def _listed(place: Path, lists: list[Path]) -> Listing:
    """The images that the lists name; ImageNet has others of the same classes."""
    wanted: dict[str, str] = {}
    for path in lists:
        wanted |= {row[0]: row[1] for row in csv_rows(path)[1:] if len(row) >= 2}
    files = open_files(place)
    names = [name for name in files.names() if name.rpartition("/")[2] in wanted]
    if len(names) < len(wanted):
        missing = min(wanted.keys() - {name.rpartition("/")[2] for name in names}, default="")
        raise InputError(f"{len(wanted) - len(names)} of the images listed in {place} are missing, such as {missing}")
    return of_files(files, names, lambda name: wanted[name.rpartition("/")[2]])
