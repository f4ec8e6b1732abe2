"""`metavision evaluate`: other policies, steps and supports; what is kept; what is refused."""

import csv
import json
import shutil
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from metavision.algorithms.protonet import ProtoNet
from metavision.cli.__main__ import main
from metavision.comparison.entries import found

SMALL = [
    *("backbone.filters=4", "episode.query=3", "references=[]", "logger=none", "engine.threads=1", "budget=smoke"),
    *("budget.steps=2", "budget.validate_every=2", "budget.validation_episodes=4", "budget.test_episodes=4"),
]


def trained(algo: str, *words: str) -> Path:
    assert main(["train", f"algo={algo}", *SMALL, *words]) == 0
    (folder,) = Path("outputs").glob(f"{algo}-*/seed0")
    return folder


def evaluated(run: Path, *words: str) -> tuple[dict, Path]:
    before = set(run.glob("evaluations/*/DONE"))
    assert main(["evaluate", f"run={run}", "engine.threads=1", *words]) == 0
    (done,) = set(run.glob("evaluations/*/DONE")) - before
    return json.loads((done.parent / "result.json").read_text()), done.parent


def test_what_is_kept_of_an_evaluation() -> None:
    run = trained("protonet")
    result, folder = evaluated(run, "episodes=300", "supports=4")
    arrays = np.load(folder / "episodes.npz")
    n, way = 300, 5
    assert arrays["confusion"].shape == (n, way, way) and arrays["classes"].shape == (n, way)
    right = np.trace(arrays["confusion"], axis1=1, axis2=2) / arrays["confusion"].sum((1, 2))
    np.testing.assert_allclose(right, arrays["trained"])
    rows = list(csv.DictReader((folder / "classes.csv").read_text().splitlines()))
    assert {row["class"] for row in rows} <= set(arrays["names"])
    assert sum(int(row["queries"]) for row in rows) == n * way * 3
    worst, mean, best = (result["supports"][name]["mean"] for name in ("worst", "mean", "best"))
    assert worst < mean < best and result["supports"]["each"] == 4
    assert result["over_classes"]["half_width"] > result["accuracy"]["half_width"]
    for key in ("track", "split_hash", "transductive", "normalisation", "calibration", "cost", "seed"):
        assert key in result
    assert result["cost"]["adapt_ms"] > 0 and result["cost"]["memory"] > 0


def test_an_episode_without_finite_outputs_is_counted_and_spoils_no_record(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained("protonet")
    solve, calls = ProtoNet.solve, count()

    def diverging(self: ProtoNet, *words: Any) -> Tensor:
        return solve(self, *words) * (float("nan") if next(calls) == 3 else 1)

    whole, _ = evaluated(run, "episodes=8", "engine.mapping=loop")
    with monkeypatch.context() as patched:
        patched.setattr(ProtoNet, "solve", diverging)
        result, folder = evaluated(run, "episodes=8", "engine.mapping=loop", "query=5")
    said = "outputs were not finite in 1 of 8 episodes"
    assert said in capsys.readouterr().out and result["not_finite"] == 1 and "not_finite" not in whole
    assert result["calibration"]["ece"]["n"] == 7 and result["calibration"]["gap"]["half_width"] > 0

    # An older record of such an evaluation has no figures there.
    lost = {name: {"mean": None, "low": None, "high": None, "half_width": None} for name in ("ece", "gap", "brier")}
    for record, words in ((result, said), (result | {"calibration": lost}, "calibration: not known")):
        (folder / "result.json").write_text(json.dumps(record))
        assert main(["evaluate", f"run={run}", "engine.threads=1", "episodes=8", "engine.mapping=loop", "query=5"]) == 0
        shown = capsys.readouterr()
        assert "this evaluation is finished" in shown.err and words in shown.out
        assert main(["compare", str(folder), "out=page"]) == 0
        page = Path("page/index.html").read_text()
        assert "Reliability" in page and "Without 1 episode whose outputs were not finite" in page


def test_maml_with_both_normalisations_and_other_steps() -> None:
    run = trained("maml", "algo.test_steps=2")
    result, _ = evaluated(run, "episodes=6", "inductive=true")
    assert result["transductive"] and result["references"]["inductive"]["difference"]["n"] == 6
    support, _ = evaluated(run, "episodes=6", "norm=support")
    assert not support["transductive"] and support["normalisation"] == "support"
    inductive = result["references"]["inductive"]["accuracy"]["mean"]
    assert support["accuracy"]["mean"] == pytest.approx(inductive)
    each, _ = evaluated(run, "episodes=6", "norm=each")
    assert not each["transductive"] and each["normalisation"] == "each" and each["accuracy"] != result["accuracy"]
    running, _ = evaluated(run, "episodes=6", "norm=running")
    assert not running["transductive"]
    none, _ = evaluated(run, "episodes=6", "steps=0")
    assert none["accuracy"]["mean"] == pytest.approx(none["before_adaptation"]["mean"]) and none["asked"] == {
        "steps": 0
    }


def test_a_finished_evaluation_is_shown_and_made_anew_for_other_weights(capsys: pytest.CaptureFixture[str]) -> None:
    run = trained("protonet")
    words = ["evaluate", f"run={run}", "episodes=20", "engine.threads=1"]

    def scored(*more: str) -> bool:
        capsys.readouterr()
        assert main([*words, *more]) == 0
        return "this evaluation is finished" not in capsys.readouterr().err

    assert scored() and not scored()
    assert scored("rerun=true")
    last, best = (run / "checkpoints" / f"{name}.safetensors" for name in ("last", "best"))
    best.write_bytes(last.read_bytes())
    assert scored() and not scored()


def test_a_checkpoint_that_is_named_itself_is_told_from_the_selected_one(capsys: pytest.CaptureFixture[str]) -> None:
    run = trained("protonet", "optimizer.lr=0.1")
    last, best = (run / "checkpoints" / f"{name}.safetensors" for name in ("last", "best"))
    best.unlink()  # for a while, so that the two are of other steps
    shutil.copy(last, best)
    selected, beside = evaluated(run, "episodes=20")
    assert selected["asked"] == {}
    again = ["budget.steps=8", "outputs=longer"]
    assert main(["train", "algo=protonet", *SMALL, "optimizer.lr=0.1", *again]) == 0
    (longer,) = Path("longer").glob("*/seed0")
    shutil.copy(longer / "checkpoints" / "last.safetensors", last)
    assert main(["evaluate", f"run={last}", "engine.threads=1", "episodes=20"]) == 0
    assert not (run / "checkpoints" / "evaluations").exists()
    (other,) = set(run.glob("evaluations/*")) - {beside}
    result = json.loads((other / "result.json").read_text())
    assert result["name"] == selected["name"] and result["asked"] == {"checkpoint": "last"}
    assert result["accuracy"] != selected["accuracy"]
    entries = found([str(run / "evaluations")])
    assert all(entry.config["seed"] == 0 and entry.curve and entry.provenance for entry in entries)
    assert main(["compare", str(run / "evaluations")]) == 0
    assert "checkpoint=last" in capsys.readouterr().out


def test_a_checkpoint_beside_no_run_is_evaluated_where_it_lies() -> None:
    run = trained("protonet", "budget.steps=0")
    shutil.copy(run / "checkpoints" / "last.safetensors", "mine.safetensors")
    assert main(["evaluate", "run=mine.safetensors", "engine.threads=1", "episodes=4"]) == 0
    (place,) = Path("evaluations").glob("*/result.json")
    assert json.loads(place.read_text())["name"] == "mine.safetensors"


def test_the_table_of_a_sweep_marks_classes_that_were_trained_on(capsys: pytest.CaptureFixture[str]) -> None:
    run = trained("protonet", "budget.steps=0")
    words = ["episodes=4", "engine.threads=1", "allow_leak=true"]
    capsys.readouterr()
    assert main(["evaluate", "-m", f"run={run}", "split=test,train", *words]) == 0
    out = capsys.readouterr().out
    table = out[out.index("all of them") :]
    (marked,) = [line for line in table.splitlines() if "‡" in line and "│" in line]
    assert "split=tra" in marked and "‡ on classes that were trained on" in table
    page = Path(next(line for line in out.splitlines() if line.startswith("page: ")).removeprefix("page: ")).read_text()
    assert "classes trained on" in page


def test_protomaml_has_an_inductive_figure_too() -> None:
    result, _ = evaluated(trained("protomaml", "norm=batch"), "episodes=4", "inductive=true")
    assert "inductive" in result["references"]


def test_a_list_of_few_episodes(capsys: pytest.CaptureFixture[str]) -> None:
    """As many as the images allow, which may be fewer than costs are measured on."""
    result, _ = evaluated(trained("protonet"), "replacement=false", "way=50", "shot=5", "query=6")
    assert 1 <= result["episodes"]["n"] < 5 and result["cost"]["adapt_ms"] > 0


def test_a_sweep_of_shots_is_one_table_and_one_page(capsys: pytest.CaptureFixture[str]) -> None:
    run = trained("protonet")
    capsys.readouterr()
    assert main(["evaluate", "-m", f"run={run}", "engine.threads=1", "episodes=30", "shot=1,3", "way=3,5"]) == 0
    out = capsys.readouterr().out
    table = out[out.index("all of them") :]
    assert all(f"{way}-way" in table for way in (3, 5)) and "3-shot" in table
    page = Path(next(line for line in out.splitlines() if line.startswith("page: ")).removeprefix("page: ")).read_text()
    assert "Accuracy against shot" in page and "Accuracy against way" in page


@pytest.mark.parametrize(
    ("algo", "words", "message"),
    [
        ("protonet", ["norm=support"], "norm=support is for methods with an inner loop, as maml, not for ProtoNet"),
        ("bdcspn", ["norm=each"], "norm=each has queries apart, and BDCSPN learns from all of them"),
        ("protonet", ["inductive=true"], "inductive=true is for methods that are transductive by norm=batch alone"),
        ("protonet", ["steps=3"], "steps=3 is for algorithms that adapt by steps"),
        ("protonet", ["steps=-1"], "steps is -1; it must be at least 0"),
        ("protonet", ["supports=1"], "supports is 1; it must be at least 2"),
        ("protonet", ["norm=layer"], "norm"),
        ("protonet", ["replacement=false", "supports=3"], "supports= needs tasks that are drawn from images"),
    ],
)
def test_what_makes_no_sense_is_refused(
    algo: str, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(algo, "budget.steps=0")
    capsys.readouterr()
    assert main(["evaluate", f"run={run}", "episodes=4", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not list(run.glob("evaluations/*/DONE"))
