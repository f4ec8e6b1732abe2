"""A letter's ink in the fonts that matplotlib ships, and drawings of it as if by many hands.

The ink is rendered once, fitted into a common box and blurred. A drawing bends that image and cuts it at a level, so
that one image gives strokes of any weight with clean edges.

Shapes: C = CANVAS, S = size of a drawing, P = 2 S (a pixel is the mean of 2 x 2 points), K = WAVES.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from fontTools.ttLib import TTFont
from PIL import Image, ImageFilter, ImageFont

# Upright faces, by name: the folder also holds LastResort, whose cmap claims all of Unicode, and symbol fonts. Italics
# are left out because some take another letter's shape (т becomes m), and a drawing is sheared anyhow.
FACES = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "STIXGeneral",
    "STIXGeneralBol",
)

EM, BOX, CANVAS = 96, 64, 96  # pixels: the font's size, the longest side of fitted ink, the side of its image
# Ink smaller than this part of an em is a mark (a dot, a raised final), not the body of a letter; Arabic heh, 0.40,
# is the smallest letter.
SMALLEST = 0.375
BLUR = 2.0  # pixels of the canvas, which is also about how far the level can move a stroke's edge
FILL = 0.66  # the part of a drawing's side that the longest side of an upright letter takes
WAVES = 4
EDGE = np.sqrt(2 * np.pi) * BLUR * 2 * FILL / BOX  # times S: the slope that spreads a cut edge over one point


@cache
def _font(face: str) -> ImageFont.FreeTypeFont:
    # The basic layout gives a character its glyph and shapes nothing, whether or not raqm is installed.
    return ImageFont.truetype(font_path(face), size=EM, layout_engine=ImageFont.Layout.BASIC)


def font_path(face: str) -> Path:
    """The file of a face, found without pyplot; matplotlib itself is imported only when letters are to be made."""
    import matplotlib as mpl

    return Path(mpl.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"


def covered() -> dict[str, list[str]]:
    """The faces that hold each character, by their cmap: one that is missing would be drawn as an empty box."""
    faces: dict[str, list[str]] = {}
    for face in FACES:
        with TTFont(font_path(face)) as font:
            for code in font.getBestCmap():
                faces.setdefault(chr(code), []).append(face)
    return faces


def _cropped(character: str, face: str) -> Image.Image:
    mask, _ = _font(face).getmask2(character, mode="L")
    image = Image.frombytes("L", mask.size, bytes(mask))
    return image.crop(image.getbbox())


def is_small(character: str, face: str) -> bool:
    """Whether this is a mark rather than a letter, going by its size beside the others of its face."""
    return max(_cropped(character, face).size) < SMALLEST * EM


def ink(character: str, face: str) -> np.ndarray:
    """(C, C) in [0, 1]: a character in a face, its longest side BOX, centred and blurred."""
    raw = _cropped(character, face)
    width, height = (max(1, round(side * BOX / max(raw.size))) for side in raw.size)
    canvas = Image.new("L", (CANVAS, CANVAS))
    canvas.paste(raw.resize((width, height), Image.Resampling.BICUBIC), ((CANVAS - width) // 2, (CANVAS - height) // 2))
    return np.asarray(canvas.filter(ImageFilter.GaussianBlur(BLUR)), dtype=np.float32) / 255


class Pose(NamedTuple):
    """How a drawing departs from the printed letter; lengths are in half sides of the drawing."""

    inverse: np.ndarray  # (2, 2), from the drawing to the letter
    shift: np.ndarray  # (2,)
    waves: np.ndarray  # (2, K, K), amplitudes of the cosines that bend x and y
    level: float  # where the blurred ink is cut: low is a broad pen


def upright(width: float = 1, height: float = 1, level: float = 0.5) -> Pose:
    """The pose of a printed letter, perhaps stretched or of another weight."""
    return Pose(np.diag([1 / width, 1 / height]), np.zeros(2), np.zeros((2, 1, 1)), level)


def random_pose(rng: np.random.Generator) -> Pose:
    """The pose of a drawing by hand.

    Turns are small, for some Canadian syllabics are rotations of each other. The strengths were set by looking: letters
    stay readable, while raw pixels name only about half of the drawings right (5-way 1-shot, nearest neighbour).
    """
    turn = np.deg2rad(rng.uniform(-10, 10))
    rotate = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    shear = np.array([[1, rng.uniform(-0.25, 0.25)], [0, 1]])
    # The two sides grow nearly alike: round, tall and flat are what tells O from Tifinagh YA.
    scale = np.diag(np.exp(rng.uniform(-0.25, 0.1) + rng.uniform(-0.1, 0.1) * np.array([1, -1])))
    k = np.arange(WAVES)
    smooth = 0.05 / (1 + k[:, None] + k)  # slow waves bend most
    return Pose(
        inverse=np.linalg.inv(rotate @ shear @ scale),
        shift=rng.uniform(-0.1, 0.1, size=2),
        waves=smooth * rng.normal(size=(2, WAVES, WAVES)),
        level=rng.uniform(0.3, 0.55),  # hairlines of crowded syllabics fade above this
    )


def drawing(ink: np.ndarray, pose: Pose, size: int) -> np.ndarray:
    """(S, S) uint8: the ink in a pose, bright on black."""
    x = (np.arange(2 * size) + 0.5) / size - 1  # (P,) in (-1, 1)
    waves = np.cos(np.pi / 2 * np.arange(pose.waves.shape[1])[:, None] * (x + 1))  # (K, P)
    moved = np.stack(np.meshgrid(x, x)) - pose.shift[:, None, None] + waves.T @ pose.waves @ waves  # (2, P, P)
    letter = (pose.inverse @ moved.reshape(2, -1)).reshape(moved.shape)
    slope = max(EDGE * size, 2)  # gentler, as tiny drawings would have it, would turn the empty ground grey
    cut = (_sampled(ink, (letter * BOX / FILL + CANVAS - 1) / 2) - pose.level) * slope + 0.5
    pixels: np.ndarray = np.clip(cut, 0, 1).reshape(size, 2, size, 2).mean((1, 3))
    return np.rint(255 * pixels).astype(np.uint8)


def _sampled(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Bilinear values of (C, C) at (2, ...) points x, y; outside lies the margin, which is empty."""
    points = np.clip(points, 0, CANVAS - 1.001)
    corner = points.astype(np.intp)
    x, y = points - corner
    flat, i = image.ravel(), corner[1] * CANVAS + corner[0]
    upper = flat[i] * (1 - x) + flat[i + 1] * x
    lower = flat[i + CANVAS] * (1 - x) + flat[i + CANVAS + 1] * x
    values: np.ndarray = upper * (1 - y) + lower * y
    return values
