"""Images of the support: a classifier keeps features and names, so pictures are looked for where they were."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from metavision.classify import photos
from metavision.classify.classifier import Classifier
from metavision.data.decode import Decoder
from metavision.data.files import Content
from metavision.errors import InputError

SIDE = 112  # of a thumbnail, in pixels
SAME = 1e-3  # of a feature's norm: what rounding may differ by


class Original(NamedTuple):
    """An image of the support."""

    pixels: np.ndarray  # (C, H, W) uint8, as the network sees it
    thumbnail: Image.Image


class Originals(NamedTuple):
    """Images of the support by row, and those that are not at hand.

    Args:
        by_row: what was found.
        changed: names of images which are other ones now than those that the classifier was made of.
        missing: names of images that are not there.
        places: where was looked.
    """

    by_row: dict[int, Original]
    changed: list[str]
    missing: list[str]
    places: list[str]


def originals(classifier: Classifier, rows: Sequence[int], places: Sequence[Path]) -> Originals:
    """Of some images of the support; of each it is made sure that it is the one the classifier was made of.

    Args:
        classifier: whose support it is; one that keeps pixels needs no places.
        rows: which of it.
        places: folders, archives or CSVs that the support was read from.
    """
    support = classifier.support
    if support.pixels is not None:
        kept = {row: support.pixels[row].numpy() for row in rows}
        return Originals({row: Original(pixels, _picture(pixels)) for row, pixels in kept.items()}, [], [], [])
    wanted: dict[str, list[int]] = defaultdict(list)
    for row in rows:  # classes that were added from folders of their own may have a name in common
        wanted[support.names[row]].append(row)
    found: dict[int, Original] = {}
    others: set[int] = set()
    for place in places:
        for name, content in _contents(place, wanted):
            try:
                pixels = classifier.network.preparing.pixels(content)
                thumbnail = _picture(Decoder(SIDE)(content))
            except ValueError:
                continue
            z = classifier.network.features(torch.tensor(pixels)[None])[0]
            for row in wanted[name]:
                if float((z - support.z[row]).norm()) <= SAME * float(support.z[row].norm()):
                    found[row] = Original(pixels, thumbnail)
                else:
                    others.add(row)
    changed = [support.names[row] for row in rows if row in others and row not in found]
    missing = [support.names[row] for row in rows if row not in others and row not in found]
    return Originals(found, changed, missing, [str(place) for place in places])


def places(classifier: Classifier, file: Path, told: Sequence[Path] | None) -> list[Path]:
    """Where the support's images are as a user has told, or else where nobody has moved them: in its folder, here or
    beside the classifier.

    Raises:
        InputError: there is nothing at a place that was told.
    """
    if told:
        if lost := [place for place in told if not place.exists()]:
            raise InputError(f"there is nothing at --support {lost[0]}")
        return list(told)
    name = classifier.card.get("folder", "")
    likely = [Path(name), file.absolute().parent / name] if name else []
    return list({place.resolve(): place for place in likely if place.exists()}.values())


def _contents(place: Path, wanted: Collection[str]) -> Iterator[tuple[str, Content | np.ndarray]]:
    listing = photos.listed(place, least=1)
    for i, content in listing.read():
        if listing.names[i] in wanted:
            yield listing.names[i], content


def _picture(pixels: np.ndarray) -> Image.Image:
    """Of (C, H, W) uint8, C 1 or 3."""
    image = Image.fromarray(pixels.transpose(1, 2, 0).squeeze(2) if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    return image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
