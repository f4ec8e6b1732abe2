"""tiered-ImageNet: 608 classes of ImageNet, split by their 34 categories: test classes are far from training."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from metavision.data.imageset import SPLITS, Card, ImageSet, Layout, Members, by_lists, frozen, frozen_lines
from metavision.data.layouts import WNID, archives, named, numbered, split_files, tree
from metavision.data.listing import Listing, merged, of_arrays
from metavision.data.pack import Pack
from metavision.data.pickles import load_pickle
from metavision.errors import InputError


@dataclass(frozen=True, kw_only=True)
class TieredImageNet(ImageSet):
    """779,165 images, 84 x 84; 351/97/160 classes of 20/6/8 categories.

    Reference:
        Meta-Learning for Semi-Supervised Few-Shot Classification (Ren et al., 2018), https://arxiv.org/abs/1803.00676
    """

    name: ClassVar = "tieredimagenet"
    family: ClassVar = "imagenet"
    folders: ClassVar = ("tieredimagenet", "tiered-imagenet", "tiered_imagenet", "tieredImageNet")
    card: ClassVar = Card(
        title="tiered-ImageNet",
        address="https://github.com/renmengye/few-shot-ssl-public",
        licence="ImageNet's: non-commercial research and education",
        place="train/, val/ and test/ with a folder for each class, an archive of these, "
        "or {train,val,test}_images_png.pkl with {train,val,test}_labels.pkl,",
        classes=608,
        images=779165,
        size=84,
        split="351/97/160",
    )

    def layouts(self) -> Iterator[Layout]:
        for place in self.places():
            if (place / "train").is_dir() or any(place.glob("n[0-9]*/")):
                yield place, partial(tree, [place], named(WNID))
            if parts := archives(place, r"(tiered[-_]?imagenet|train|val|test)"):
                yield place, partial(tree, parts, named(WNID))
        for place in self.places(itself=True):
            images = next(split_files(place, ["{}_images_png.pkl"]), None)
            labels = next(split_files(place, ["{}_labels.pkl"]), None)
            if images and labels:
                yield place, partial(_unpickled, images, labels)
        if parts := archives(Path(self.root), r"tiered[-_]?imagenet"):
            yield parts[0], partial(tree, parts[:1], named(WNID))

    def members(self, pack: Pack) -> Mapping[str, Members]:
        return numbered(pack) or by_lists(pack, frozen("tieredimagenet"), self.card.title)

    def group(self, name: str) -> str | None:
        return _categories().get(name)


@cache
def _categories() -> dict[str, str]:
    """Class -> category."""
    return dict(line.split() for lines in frozen_lines("tieredimagenet").values() for line in lines)


def _unpickled(images: Mapping[str, Path], labels: Mapping[str, Path]) -> Listing:
    """Of renmengye's pickles: encoded images, and labels that are numbers only."""
    parts = []
    for split in SPLITS:
        found = load_pickle(labels[split])
        if not isinstance(found, dict) or "label_specific" not in found:
            raise InputError(f"{labels[split]} has no label_specific")
        encoded = _Encoded(load_pickle(images[split]))
        names = (f"{split}/{int(label)}" for label in found["label_specific"])
        parts.append(of_arrays(encoded, names, origin=images[split].name))
    return merged(parts)


class _Encoded(Sequence[np.ndarray | bytes]):
    """Images as files in arrays of bytes."""

    def __init__(self, files: Sequence[np.ndarray]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> bytes:  # type: ignore[override]
        return bytes(np.asarray(self.files[i], dtype=np.uint8))
