"""A run that takes a fraction of a second, by the path that `metavision train` takes behind Hydra."""

import copy
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from metavision import config
from metavision.cli import training
from metavision.cli.guard import guarded
from metavision.cli.results import show_finished
from metavision.records import provenance
from metavision.records.run import Run

STEPS, CHECKPOINTS, VALIDATIONS = 12, 4, 6
SETTINGS = [
    *("algo=maml", "algo.steps=1", "algo.test_steps=1", "backbone=mlp", "backbone.hidden=[8]", "references=[]"),
    *("episode.query=2", "episode.meta_batch=3", "data=folder", "data.size=8", "data.color=grey", "logger=none"),
    *(f"budget.steps={STEPS}", f"budget.validate_every={VALIDATIONS}", f"budget.checkpoint_every={CHECKPOINTS}"),
    *("budget.validation_episodes=8", "budget.test_episodes=8", "budget.log_every=3", "engine.threads=1"),
    "engine.mapping=vmap",
]
origin = cache(provenance.provenance)  # the same all through, and slow to find out


def photos(place: Path, seed: int = 0) -> Path:
    """A folder of noisy images by split and class."""
    rng = np.random.default_rng(seed)
    for split, classes in {"train": 7, "val": 5, "test": 5}.items():
        for c in range(classes):
            folder = place / split / f"{split}{c}"
            folder.mkdir(parents=True, exist_ok=True)
            mean = rng.integers(0, 255, (8, 8))
            for i in range(6):
                pixels = np.clip(mean + rng.normal(0, 40, (8, 8)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return place


@cache
def composed(data: Path, *words: str) -> dict[str, Any]:
    return config.composed("train", [*SETTINGS, f"data.path={data}", *words])


class World:
    """One run, in a folder of its own.

    Args:
        data: a folder of images.
        home: where the run is.
    """

    def __init__(self, data: Path, home: Path) -> None:
        self.data, self.folder = data, home / "tiny" / "seed0"

    def train(self, *words: str) -> int:
        """What `metavision train` does, and its exit code."""
        resolved = copy.deepcopy(composed(self.data, *words))
        run = Run(self.folder)

        def job() -> int:
            config.check(resolved)
            with run.locked(wait=False):
                if run.done and not resolved["rerun"]:
                    show_finished(run)
                else:
                    training.run_to_the_end(resolved, [], run)
            return 0

        return guarded(job)

    @property
    def done(self) -> bool:
        return (self.folder / "DONE").is_file()

    def checkpoint(self, name: str) -> Path:
        return self.folder / "checkpoints" / f"{name}.safetensors"

    def rows(self) -> list[dict[str, Any]]:
        """The metrics, without what is a matter of time."""
        lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        return [{key: value for key, value in json.loads(line).items() if key != "timing"} for line in lines]

    def result(self) -> dict[str, Any]:
        found = json.loads((self.folder / "result.json").read_text())
        return {key: value for key, value in found.items() if key != "cost"}

    def bytes(self) -> dict[str, bytes]:
        """Of the files that a finished run is."""
        names = ("result.json", "episodes.npz", "metrics.jsonl", "DONE", "checkpoints/best.safetensors")
        return {name: (self.folder / name).read_bytes() for name in names}


def assert_same(ours: World, theirs: World, *, exact: bool = True) -> None:
    """Two finished runs are one: metrics, results, episodes, weights and optimizer."""
    assert ours.done and theirs.done
    close = {"rtol": 0, "atol": 0} if exact else {"rtol": 1e-4, "atol": 1e-5}
    assert_close(ours.rows(), theirs.rows(), **close)
    assert_close(ours.result(), theirs.result(), **close)
    pairs = [(load_file(ours.checkpoint(name)), load_file(theirs.checkpoint(name))) for name in ("last", "best")]
    pairs.append((np.load(ours.folder / "episodes.npz"), np.load(theirs.folder / "episodes.npz")))
    for a, b in pairs:
        assert set(a) == set(b)
        for name in a:
            if a[name].dtype.kind in "OUS":
                assert (a[name] == b[name]).all()
            else:
                np.testing.assert_allclose(a[name], b[name], **close)


def assert_close(a: Any, b: Any, **close: float) -> None:
    if isinstance(a, Mapping):
        assert a.keys() == b.keys()
        for key in a:
            assert_close(a[key], b[key], **close)
    elif isinstance(a, list):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_close(one, other, **close)
    elif isinstance(a, float):
        assert a == pytest.approx(b, rel=close["rtol"], abs=close["atol"], nan_ok=True)
    else:
        assert a == b
