"""TensorBoard's files, read back by its own reader."""

from pathlib import Path

import pytest

from metavision.tracking.tensorboard import TensorBoard

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def run(folder: Path, steps: range) -> None:
    tracker = TensorBoard()
    tracker.start(folder, "maml-toy-00000000/seed0", {"seed": 0}, {})
    for step in steps:
        tracker.log({"step": step, "split": "train", "loss": 1 / (1 + step), "timing": {}})
    tracker.finish({"accuracy": {"mean": 0.5}}, None)


def test_a_resumed_run_has_every_row_once(tmp_path: Path) -> None:
    run(tmp_path, range(6))
    run(tmp_path, range(3, 9))
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert found == [(step, pytest.approx(1 / (1 + step))) for step in range(9)]
    assert events.Scalars("test/accuracy/mean")[-1].value == 0.5
