"""Whether packed data is what it should be: undamaged, without leaks between its splits."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from metavision.console import progress_bar
from metavision.data.download import verify
from metavision.data.imageset import ImageSet, Members
from metavision.data.pack import DIGEST, Pack, digest
from metavision.errors import InputError

SHOWN = 3  # examples of a finding
PIECE = 1024  # images read at a time


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Args:
        check: what was looked at.
        state: `ok`; `note`, for what a user should know; `bad`, for what makes results wrong.
        text: in words, with examples.
    """

    check: str
    state: Literal["ok", "note", "bad"]
    text: str


def findings(data: ImageSet) -> Iterator[Finding]:
    """All checks of a data set, packed if it is not yet.

    Raises:
        InputError: it is not here, or can't be packed.
    """
    yield _archives(data)
    pack = data.pack()
    yield _pixels(pack)
    left_out, ignored = pack.manifest["left_out"], pack.manifest["ignored_files"]
    if left_out:
        yield Finding("unreadable images", "bad", f"{len(left_out)} were left out: {_some(list(left_out))}")
    if ignored:
        yield Finding("other files", "note", f"{ignored} files that are no images were passed over")
    members = data.members(pack)
    yield _classes(members)
    yield from _duplicates(pack, members)


def _archives(data: ImageSet) -> Finding:
    places = list(data.places(itself=True)) if data.folders else []
    found = [(place / archive.name, archive) for place in places for archive in data.card.archives]
    checked = [(path, archive) for path, archive in found if path.is_file() and archive.md5]
    for path, archive in checked:
        try:
            verify(path, archive)
        except InputError as error:
            return Finding("archives", "bad", str(error))
    if not checked:
        return Finding("archives", "ok", "none here to be checked")
    return Finding("archives", "ok", f"{len(checked)} with the published checksum")


def _pixels(pack: Pack) -> Finding:
    """Compares every image with the hash that was taken when it was packed."""
    wrong: list[int] = []
    with progress_bar("checking", len(pack.rows), "images") as advance:
        for start in range(0, len(pack.rows), PIECE):
            images = pack.images[pack.rows[start : start + PIECE]]
            for i, image in enumerate(images, start):
                if digest(image) != pack.digests[i].tobytes():
                    wrong.append(i)
            advance(len(images))
    if wrong:
        text = f"{len(wrong)} images are not what was packed: {_some([pack.names[i] for i in wrong])}"
        return Finding("pixels", "bad", f"{text}; remove {pack.folder} to pack them anew")
    return Finding("pixels", "ok", f"{len(pack.rows):,} images are as they were packed")


def _classes(members: Mapping[str, Members]) -> Finding:
    for one, other in combinations(members, 2):
        if both := members[one].keys() & members[other].keys():
            same = members[one].keys() == members[other].keys()
            state: Literal["note", "bad"] = "note" if same else "bad"
            return Finding("classes", state, f"{len(both)} are in {one} and in {other}: {_some(sorted(both))}")
    sizes = ", ".join(f"{split} {len(classes)}" for split, classes in members.items())
    return Finding("classes", "ok", f"{sizes}; no class in two splits")


def _duplicates(pack: Pack, members: Mapping[str, Members]) -> Iterator[Finding]:
    """Images with the same pixels: across splits, across classes of a split, within a class."""
    split, label = np.full(len(pack.rows), -1), np.full(len(pack.rows), -1)
    number = 0
    for s, classes in enumerate(members.values()):
        for images in classes.values():
            split[images], label[images], number = s, number, number + 1
    used = np.flatnonzero(split >= 0)
    keys = pack.digests[used].view(f"V{DIGEST}").ravel()
    order = np.argsort(keys, kind="stable")
    same = keys[order][1:] == keys[order][:-1]
    first, second = used[order[:-1][same]], used[order[1:][same]]
    kinds = {
        "same image in two splits": split[first] != split[second],
        "same image in two classes": (split[first] == split[second]) & (label[first] != label[second]),
        "same image twice in a class": label[first] == label[second],
    }
    for check, mine in kinds.items():
        pairs = [f"{pack.names[a]} = {pack.names[b]}" for a, b in zip(first[mine], second[mine], strict=True)]
        how_many = "1 pair" if len(pairs) == 1 else f"{len(pairs)} pairs"
        yield Finding(check, "note" if pairs else "ok", f"{how_many}: {_some(pairs)}" if pairs else "none")


def _some(names: list[str]) -> str:
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
