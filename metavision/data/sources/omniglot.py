"""Omniglot: 1,623 handwritten characters of 50 alphabets, each drawn by 20 people."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Any, ClassVar, Literal

import numpy as np

from metavision.data.decode import Filter
from metavision.data.download import Archive
from metavision.data.imageset import Card, ImageSet, Layout, Members, by_lists, frozen
from metavision.data.layouts import named, tree
from metavision.data.pack import Pack
from metavision.data.source import Pixels, Source

ADDRESS = "https://github.com/brendenlake/omniglot/raw/master/python"
PARTS = ("images_background", "images_evaluation")
TURNS = 4


@dataclass(frozen=True, kw_only=True)
class Omniglot(ImageSet):
    """Characters and their rotations by quarter turns as classes; ink is bright, paper is 0.

    Reference:
        Human-level concept learning through probabilistic program induction (Lake et al., 2015),
        https://github.com/brendenlake/omniglot

    Args:
        split: `vinyals`, of Matching Networks and Prototypical Networks: 1,028/172/423 characters; or `finn`, as in
            MAML: 1,200/100/323 characters at random (our own draw: his depended on the order of a folder listing, and
            turned each class of an episode at random where we have the four turns as classes).
    """

    split: Literal["vinyals", "finn"] = "vinyals"
    resample: Filter = "box"

    name: ClassVar = "omniglot"
    folders: ClassVar = ("omniglot-py", "omniglot")
    invert: ClassVar = True
    card: ClassVar = Card(
        title="Omniglot",
        address="https://github.com/brendenlake/omniglot",
        licence="MIT",
        place="images_background.zip and images_evaluation.zip, or the two folders that they unpack to,",
        classes=1623,
        images=32460,
        size=28,
        color="grey",
        split="4112/688/1692",
        archives=(
            Archive("images_background.zip", f"{ADDRESS}/images_background.zip", "68d2efa1b9178cc56df9314c21c6e718"),
            Archive("images_evaluation.zip", f"{ADDRESS}/images_evaluation.zip", "6b91aef0f799c5bb55b94e3f2daec811"),
        ),
    )

    def layouts(self) -> Iterator[Layout]:
        for place in self.places(itself=True):
            found = [path for part in PARTS for path in (place / part, place / f"{part}.zip") if path.exists()]
            if {path.stem for path in found} == set(PARTS):
                yield place, partial(tree, found, named(r"([^/]+/character\d\d)/[^/]+$"))

    def members(self, pack: Pack) -> Mapping[str, Members]:
        lists = finn(pack.classes) if self.split == "finn" else frozen("omniglot-vinyals")
        return by_lists(pack, lists, f"omniglot ({self.split})")

    def group(self, name: str) -> str:
        return name.split("/", maxsplit=1)[0]

    def source_of(self, pack: Pack, members: Members, split: str) -> Source:
        """Every character as four classes."""
        upright = super().source_of(pack, members, split)
        assert upright.rows is not None
        assert upright.digests is not None
        assert upright.groups is not None
        order, start, count = upright.by_class
        index = np.concatenate([order[start[c] : start[c] + count[c]] for c in range(len(count)) for _ in range(TURNS)])
        classes = tuple(f"{name}/rot{90 * turn:03d}" for name in upright.classes for turn in range(TURNS))
        labels = np.repeat(np.arange(len(classes)), np.repeat(count, TURNS))
        turn = labels % TURNS
        digests = upright.digests[index]
        digests[:, -1] ^= turn.astype(np.uint8)  # another image, and as such another hash
        return replace(
            upright,
            images=Turned(upright.images),
            rows=upright.rows[index] * TURNS + turn,
            labels=labels,
            classes=classes,
            keys=tuple(f"{self.name}:{name}" for name in classes),
            digests=digests,
            groups=tuple(np.repeat(upright.groups, TURNS).tolist()),
        )


class Turned:
    """Images and their quarter turns: row 4 i + t is image i turned t times."""

    def __init__(self, upright: Pixels) -> None:
        self.upright = upright

    @property
    def shape(self) -> tuple[int, ...]:
        return TURNS * self.upright.shape[0], *self.upright.shape[1:]

    def __getitem__(self, rows: Any) -> np.ndarray:
        image, turn = np.divmod(rows, TURNS)
        found = np.array(self.upright[image])
        for t in range(1, TURNS):
            found[turn == t] = np.rot90(found[turn == t], t, axes=(2, 3))
        return found


def finn(characters: tuple[str, ...]) -> dict[str, list[str]]:
    """Characters of train, val and test at random."""
    shuffled = sorted(characters)
    Random(1).shuffle(shuffled)
    return {"train": shuffled[:1200], "val": shuffled[1200:1300], "test": shuffled[1300:]}
