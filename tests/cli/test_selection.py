"""The test classes are not looked at before the end: not by training, validation, selection, or statistics."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metavision.cli import training
from metavision.cli.recorder import Recorder
from metavision.data.source import Source
from metavision.engine.train import train
from metavision.records.run import Run
from metavision.tracking.none import Nothing
from tests.algorithms.builds import composed
from tests.conftest import toy_source


class OpenedError(Exception):
    pass


class Sealed:
    """Images that can be counted, and not be looked at."""

    def __init__(self, images: Any) -> None:
        self.shape = images.shape

    def __getitem__(self, rows: Any) -> np.ndarray:
        raise OpenedError


class Toy:
    """Three splits, of which the test is sealed."""

    name, shape = "toy", (1, 16, 16)

    def source(self, split: str) -> Source:
        whole = toy_source(classes=15, images=8)
        start = {"train": 0, "val": 5, "test": 10}[split]
        own = (whole.labels >= start) & (whole.labels < start + 5)
        part = replace(
            whole,
            split=split,
            images=whole.images[own],
            labels=whole.labels[own] - start,
            classes=whole.classes[start : start + 5],
            digests=whole.hashes[own],
        )
        return replace(part, images=Sealed(part.images)) if split == "test" else part


@pytest.mark.parametrize("algo", ["protonet", "maml", "baseline", "simpleshot"])
def test_nothing_reads_the_test_images_before_the_test(algo: str, tmp_path: Path) -> None:
    words = [
        "episode.way=3",
        "episode.train.way=3",
        "episode.query=2",
        "budget=smoke",
        "budget.steps=4",
        "budget.validate_every=2",
    ]
    words += [
        "batch=8",
        "budget.validation_episodes=4",
        "budget.test_episodes=4",
        "backbone.filters=4",
        "scaling=standard",
    ]
    config = composed(f"algo={algo}", *words)
    plan = training.plan_of(config, Toy(), torch.device("cpu"))
    run = Run(tmp_path / "run" / "seed0")
    with run.locked(wait=False):
        recorder = Recorder(run, Nothing(), plan.steps, "accuracy", lambda: 0)
        selected = train(plan, run, recorder)
        assert {row["split"] for row in run.metrics()} == {"train", "val"}
        with pytest.raises(OpenedError):
            training._tested(config, Toy(), plan, selected, run, recorder)
