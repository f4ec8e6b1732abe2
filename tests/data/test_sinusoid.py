"""Sines to regress, and the inner loop on them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from metavision.cli.__main__ import main
from metavision.data.own import OwnEpisodes
from metavision.data.sources.sinusoid import Sinusoid
from metavision.data.spec import EpisodeSpec

CPU = torch.device("cpu")


@pytest.mark.usefixtures("float64")
def test_tasks_are_sines_of_the_papers_ranges() -> None:
    episodes = OwnEpisodes(Sinusoid().source("train"), EpisodeSpec(1, 10, 30), 0, CPU)
    tasks = episodes.batch(range(200))
    assert tasks.support.x.shape == tasks.support.y.shape == (200, 10, 1) and tasks.query.y.shape == (200, 30, 1)
    found = []
    for t in range(200):
        x, y = (
            torch.cat([part[t] for part in (getattr(tasks.support, c), getattr(tasks.query, c))])[:, 0] for c in "xy"
        )
        # a sin(x - b) = a cos b sin x - a sin b cos x: least squares find both, and leave nothing.
        basis = torch.stack([x.sin(), -x.cos()], 1)
        solution = torch.linalg.lstsq(basis, y).solution
        assert (basis @ solution - y).abs().max() < 1e-9
        found.append((float(solution.norm()), float(torch.atan2(solution[1], solution[0]))))
    amplitude, phase = np.array(found).T
    points = torch.cat([tasks.support.x, tasks.query.x], 1)
    for values, low, high in ((amplitude, 0.1, 5), (phase, 0, np.pi), (points.numpy().ravel(), -5, 5)):
        assert low <= values.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < values.max() <= high
        assert abs(values.mean() - (low + high) / 2) < 0.1 * (high - low)


def test_a_task_is_a_function_of_split_seed_and_number() -> None:
    def task(split: str, seed: int, i: int) -> torch.Tensor:
        return OwnEpisodes(Sinusoid().source(split), EpisodeSpec(1, 5, 5), seed, CPU).batch([i]).support.x

    assert torch.equal(task("test", 0, 3), task("test", 0, 3))
    assert not torch.equal(task("test", 0, 3), task("val", 0, 3))
    assert not torch.equal(task("test", 0, 3), task("test", 1, 3))
    assert not torch.equal(task("test", 0, 3), task("test", 0, 4))


SMOKE = ["train", "data=sinusoid", "budget=smoke", "logger=none", "engine.threads=1"]


def test_maml_learns_to_regress_them(capsys: pytest.CaptureFixture[str]) -> None:
    import json

    assert main([*SMOKE, "algo=maml", "budget.steps=200", "budget.validate_every=100"]) == 0
    (place,) = Path("outputs").glob("maml-sinusoid-*/seed0/result.json")
    result = json.loads(place.read_text())
    assert result["metric"] == "mse" and result["chance"] is None and result["transductive"] is False
    better = result["references"]["untrained"]["difference"]
    assert better["mean"] + better["half_width"] < 0
    assert result["mse"]["mean"] < result["before_adaptation"]["mean"]
    out = capsys.readouterr().out
    assert "best validation mse" in out and "%" not in out.split("±")[0] and "chance" not in out
    assert main(["evaluate", f"run={place.parent}", "shot=5", "episodes=50"]) == 0
    assert "1-way 5-shot" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["show", "prepare", "verify"])
def test_it_has_no_images_to_show(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", verb, "sinusoid"]) == 2
    assert "sinusoid has no images of its own" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("algo=protonet", "ProtoNet tells classes apart"),
        ("algo=rfs", "an episodic algo= is needed"),
        ("algo=maml episode.way=5", "an episode of a regression is of 1 function"),
        ("algo=maml backbone=conv4", "backbone=mlp takes it"),
    ],
)
def test_what_makes_no_sense_is_refused(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMOKE, *words.split()]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
