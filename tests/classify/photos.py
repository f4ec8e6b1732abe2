"""Folders of pictures, and a small run to adapt."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from metavision.cli.__main__ import main

SMALL = ["budget.steps=2", "references=[]", "logger=none", "engine.threads=1", "engine.calibration_images=50"]


def picture(kind: int, i: int, size: int = 24) -> Image.Image:
    """Stripes of a direction and width that the kind decides, on noise of its own."""
    rng = np.random.default_rng([kind, i])
    up, along = np.mgrid[:size, :size]
    wave = np.sin((up * np.cos(kind) + along * np.sin(kind)) * (0.5 + 0.35 * kind) + rng.uniform(0, 1))
    pixels = 128 + 80 * wave[..., None] + rng.normal(0, 25, (size, size, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def folder(place: Path, classes: Sequence[str], n: int = 4, start: int = 0) -> Path:
    """n pictures of every class, numbered from `start`."""
    for kind, name in enumerate(classes):
        (place / name).mkdir(parents=True, exist_ok=True)
        for i in range(start, start + n):
            picture(kind, i).save(place / name / f"{i:02}.png")
    return place


def run(place: Path, *words: str, backbone: tuple[str, ...] = ("backbone.filters=8",)) -> Path:
    """A run that was hardly trained."""
    episodes = [f"budget.{name}_episodes=2" for name in ("validation", "test")]
    code = main(["train", *backbone, *SMALL, *episodes, f"outputs={place}", *words])
    assert code == 0
    return next(place.glob("*/seed0"))
