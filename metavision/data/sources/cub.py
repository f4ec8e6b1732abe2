"""Caltech-UCSD Birds: 200 species, in the three splits that few-shot papers use."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from metavision.data.download import Archive
from metavision.data.imageset import Card, ImageSet, Layout, Members, by_lists, frozen
from metavision.data.layouts import archives, named, tree
from metavision.data.pack import Pack

SPECIES = named(r"(?:^|/)(\d{3}\.[^/]+)/[^/]+$")


@dataclass(frozen=True, kw_only=True)
class Cub(ImageSet):
    """11,788 images of birds.

    Reference:
        The Caltech-UCSD Birds-200-2011 Dataset (Wah et al., 2011), https://www.vision.caltech.edu/datasets/cub_200_2011/

    Args:
        split: splits of one another's training classes, so that a network trained on one must not be tested on another:
            `closerlook` (100/50/50, by the order of species; A Closer Look at Few-shot Classification, Chen et al.,
            2019), `feat` (100/50/50, others; Few-Shot Learning via Embedding Adaptation, Ye et al., 2020) and `easyfsl`
            (140/30/30, of Meta-Dataset's numbers).
    """

    split: Literal["closerlook", "feat", "easyfsl"] = "closerlook"

    name: ClassVar = "cub"
    folders: ClassVar = ("CUB_200_2011", "cub", "CUB", "cubirds200")
    card: ClassVar = Card(
        title="CUB-200-2011",
        address="https://www.vision.caltech.edu/datasets/cub_200_2011/",
        licence="non-commercial research and education; the images belong to their photographers",
        place="images/ with a folder for each species, or CUB_200_2011.tgz,",
        classes=200,
        images=11788,
        size=84,
        split="100/50/50 or 140/30/30",
        archives=(
            Archive(
                "CUB_200_2011.tgz",
                "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
                "97eceeb196236b17998738112f37df78",
            ),
        ),
    )

    def layouts(self) -> Iterator[Layout]:
        for place in self.places(itself=True):
            for folder in (place / "CUB_200_2011" / "images", place / "images", place):
                if any(folder.glob("001.*/")):
                    yield folder, partial(tree, [folder], SPECIES)
            if parts := archives(place, r"CUB_200_2011"):
                yield parts[0], partial(tree, parts[:1], SPECIES)

    def members(self, pack: Pack) -> Mapping[str, Members]:
        return by_lists(pack, frozen(f"cub-{self.split}"), f"CUB ({self.split})")
