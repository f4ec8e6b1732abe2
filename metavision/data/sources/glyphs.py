"""Letters of many scripts drawn on the spot from fonts at hand: few-shot images with nothing to download."""

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image, ImageFilter, features

from metavision.data.imageset import Card, ImageSet, Layout, Members, by_class
from metavision.data.listing import Listing
from metavision.data.pack import Pack
from metavision.data.sources.glyph_shapes import FACES, Pose, covered, drawing, ink, is_small, random_pose, upright
from metavision.errors import InputError
from metavision.seeds import seed

RECIPE = 1  # to be raised with any change of the drawings

# Scripts by the first word of a character's name; no split shares one. A shape found in two scripts goes to the one
# named first, so that train, which has letters to spare, gives way: its O is the Armenian one of test.
SPLITS = {
    "test": ("GEORGIAN", "ARMENIAN", "HEBREW", "NKO"),
    "val": ("ARABIC", "TIFINAGH", "LAO"),
    "train": ("LATIN", "GREEK", "CYRILLIC", "CANADIAN", "COPTIC", "OLD", "LISU"),
}
RANK = {script: rank for rank, script in enumerate(sum(SPLITS.values(), ()))}
DRAWINGS = 20

# Cosines between clean renderings (see `_look`), set by looking at pairs on either side. Above 0.957 most pairs are one
# letter in two cases (щ and Щ) or differ by a mark that drowns in the jitter (k and ƙ); below it most can be told
# apart (Z and Ƶ, S and 5). At 0.95 fewer than a thousand classes are left. Below 0.82 a face has another idea of the
# letter: some Georgian capitals of sans and of serif, dots of Canadian syllabics that moved.
SAME, ALIKE = 0.957, 0.82
# Drawings vary in width, height and weight, so letters that differ in nothing else are the same: O and o. Likeness is
# taken both ways, so a stretch stands for the squeeze that undoes it.
PRINTS = tuple(
    upright(width, height, level)
    for (width, height), level in product(((1, 1), (1.15, 1), (1, 1.15), (1.15, 0.87)), (0.5, 0.35, 0.65))
)


@dataclass(frozen=True, kw_only=True)
class Glyphs(ImageSet):
    """Characters of 14 scripts, 20 drawings each, split by script. The classes are the same at any size.

    A class is one shape: A is a single class, though Latin, Greek and Cyrillic each have one. Made in seconds on first
    use. Drawings come from Pillow, FreeType and matplotlib's fonts, so another version of these is another data set.
    """

    root: str = ""  # nothing is read

    name: ClassVar = "glyphs"
    folders: ClassVar = ()
    card: ClassVar = Card(
        title="Glyphs",
        address="built in: drawn from the fonts that come with matplotlib",
        licence="the fonts' (free)",
        place="nothing",
        classes=None,
        images=None,
        size=28,
        color="grey",
        split="673/143/218",
    )

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 8:
            raise InputError(f"data.size is {self.size}; glyphs are drawn at 8 or more, to be readable")
        super().__post_init__()

    def layouts(self) -> Iterator[Layout]:
        yield Path("built in"), self._drawn

    def members(self, pack: Pack) -> Mapping[str, Members]:
        images = by_class(pack)
        script = {name: self.group(name) for name in images}
        return {
            split: {name: images[name] for name in images if script[name] in SPLITS[split]}
            for split in ("train", "val", "test")
        }

    def group(self, name: str) -> str:
        return name.split(maxsplit=1)[0]

    def version(self) -> dict[str, Any]:
        """All that pixels depend on: fonts, renderer, random stream, and which characters count as letters."""
        return {
            "recipe": RECIPE,
            "matplotlib": version("matplotlib"),
            "pillow": version("pillow"),
            "freetype": features.version("freetype2"),
            "numpy": np.__version__,
            "unicode": unicodedata.unidata_version,
        }

    def _drawn(self) -> Listing:
        faces = letters()
        names = tuple(unicodedata.name(character) for character in faces)
        labels = np.repeat(np.arange(len(faces)), DRAWINGS)
        size = self.decoder.size
        images = (image for character in faces for image in drawings(character, faces[character], size))
        titles = [f"{name}, drawing {number + 1}" for name in names for number in range(DRAWINGS)]
        return Listing(names, labels, titles, lambda: enumerate(images))


def drawings(character: str, faces: list[str], size: int) -> np.ndarray:
    """(DRAWINGS, S, S): each from a stream of its own, so that no drawing depends on another."""
    inks = [ink(character, face) for face in faces]
    streams = (np.random.default_rng(seed("glyphs", ord(character), number)) for number in range(DRAWINGS))
    return np.stack([drawing(inks[rng.integers(len(inks))], random_pose(rng), size) for rng in streams])


def letters() -> dict[str, list[str]]:
    """The characters that make a class, in the order of RANK, and for each the faces it is drawn from."""
    faces = {
        character: held
        for character, held in covered().items()
        if held[0] == FACES[0] and len(held) > 1 and _is_letter(character)
    }
    ordered = sorted(faces, key=lambda character: (RANK[_script(character)], character))
    looks = np.stack([_looks(character) for character in ordered], axis=1)
    kept = _distinct(looks)
    return _faces(looks[:, kept], {ordered[i]: faces[ordered[i]] for i in kept})


def _script(character: str) -> str:
    return unicodedata.name(character, "?").split()[0]


def _is_letter(character: str) -> bool:
    """Whether this is a letter in itself: no modifier, no ligature, no accented or styled form of another."""
    return (
        unicodedata.category(character) in ("Lu", "Ll", "Lo")
        and _script(character) in RANK
        and unicodedata.normalize("NFKD", character) == character
        and "LIGATURE" not in unicodedata.name(character)
        and not is_small(character, FACES[0])
    )


def _look(ink: np.ndarray, pose: Pose) -> np.ndarray:
    """(784,) of length 1: a clean rendering at 28 pixels, blurred so that nearly the same strokes overlap."""
    image = Image.fromarray(drawing(ink, pose, 28)).filter(ImageFilter.GaussianBlur(1))
    look = np.asarray(image, dtype=np.float32).ravel()
    return look / np.linalg.norm(look)


def _looks(character: str) -> np.ndarray:
    """(PRINTS, 784), the first of them plain."""
    reference = ink(character, FACES[0])
    return np.stack([_look(reference, pose) for pose in PRINTS])


def _likeness(looks: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N, M) cosines between N characters, (PRINTS, N, 784), and M plain looks, (M, 784): of the prints, the best."""
    return reduce(np.maximum, (look @ others.T for look in looks))


def _distinct(looks: np.ndarray) -> list[int]:
    """Which characters to keep, the earlier of any two that look the same."""
    likeness = _likeness(looks, looks[0])
    likeness = np.maximum(likeness, likeness.T)
    kept: list[int] = []
    for i in range(len(likeness)):
        if (likeness[i, kept] < SAME).all():
            kept.append(i)
    return kept


def _faces(looks: np.ndarray, faces: dict[str, list[str]]) -> dict[str, list[str]]:
    """For each character the reference face, and of the others those in which it looks like itself.

    That is: alike to its reference, and not the same as another class that it resembles more (in a monospaced face
    Latin D is Old Italic DE).
    """
    chosen = {character: [FACES[0]] for character in faces}
    for face in FACES[1:]:
        held = [(i, character) for i, character in enumerate(faces) if face in faces[character]]
        likeness = _likeness(looks, np.stack([_look(ink(character, face), upright()) for _, character in held]))
        for (i, character), column in zip(held, likeness.T, strict=True):
            other = np.delete(column, i).max()
            if column[i] >= ALIKE and (other < SAME or other <= column[i]):
                chosen[character].append(face)
    return chosen
