"""Runs from the command line: to the end, killed and gone on with, evaluated, loaded, refused."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import metavision
from metavision.algorithms.reptile import Reptile
from metavision.cli.__main__ import VERBS, main
from metavision.engine.mapping import Mapper

SMALL = [
    "algo=maml",
    "backbone.filters=4",
    "algo.steps=1",
    "algo.test_steps=2",
    "episode.query=2",
    "episode.meta_batch=2",
    "references=[]",
    "budget.steps=60",
    "budget.validate_every=20",
    "budget.validation_episodes=20",
    "budget.test_episodes=40",
    "budget.checkpoint_every=7",
    "budget.log_every=3",
    "engine.threads=1",
]


def train(*words: str) -> int:
    return main(["train", *SMALL, "logger=none", *words])


def run_folder(outputs: str = "outputs") -> Path:
    (done,) = Path(outputs).glob("*/seed0")
    return done


def rows(folder: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "timing"} for row in lines]


def test_a_run_from_start_to_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert train() == 0
    folder = run_folder()
    result = json.loads((folder / "result.json").read_text())
    accuracy = np.load(folder / "episodes.npz")["trained"]
    assert result["accuracy"]["mean"] == pytest.approx(accuracy.mean()) and len(accuracy) == 40
    assert result["transductive"] is True and result["normalisation"] == "batch"
    assert "transductive" in capsys.readouterr().out

    # Finished: shown again, not run again.
    before = (folder / "metrics.jsonl").stat().st_mtime_ns
    assert train() == 0
    assert (folder / "metrics.jsonl").stat().st_mtime_ns == before
    assert "this run is finished" in capsys.readouterr().err

    # The same episodes give the same figure.
    assert main(["evaluate", f"run={folder}", "episodes=40", "engine.threads=1"]) == 0
    (again,) = folder.glob("evaluations/*/episodes.npz")
    np.testing.assert_array_equal(np.load(again)["trained"], accuracy)

    algorithm, meta, scaling = metavision.load(folder)
    assert scaling.is_unit
    assert algorithm.steps == 2 and meta.params["head.weight"].shape[0] == 5

    capsys.readouterr()
    for words, message in {
        "way=7": "has 5 outputs, one for each class of an episode, so way=7 can't be evaluated",
        "split=train": "classes were trained on",
        "split=nope": "glyphs has no split nope",
    }.items():
        assert main(["evaluate", f"run={folder}", words]) == 2
        assert message in capsys.readouterr().err
    assert main(["evaluate", f"run={folder}", "split=train", "allow_leak=true", "episodes=4"]) == 0
    assert "of the classes were trained on" in capsys.readouterr().out

    # A checkpoint of another architecture, as a start and as other weights.
    assert train(f"init={folder}", "backbone.filters=8", "outputs=other") == 2
    assert "is a checkpoint of another architecture: it has" in capsys.readouterr().err


def test_what_reptile_carries_goes_on_whole_whatever_optimizer_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["algo=reptile", "budget.steps=6", "budget.validate_every=6", "budget.checkpoint_every=2"]
    others = ["optimizer.momentum=0.9", "optimizer.weight_decay=0.1", "clip=1e-3", "schedule=cosine"]
    assert train(*words, "algo.steps=3", *others) == 0
    folder = run_folder()
    last = load_file(folder / "checkpoints" / "last.safetensors")
    squares = {name: tensor for name, tensor in last.items() if name.startswith("params/carried.mean.")}
    assert len(squares) == len([name for name in last if name.startswith("params/")]) // 2
    assert all((tensor >= 0).all() and tensor.any() for tensor in squares.values())
    assert last["params/carried.decay"].item() == pytest.approx(0.999 ** (3 * 6), rel=1e-5)
    assert not any("carried" in name for name in last if name.startswith("optimizer/"))

    # Another number of outputs has no use for it, and a test can't have one.
    assert (
        train(*words, f"init={folder}", "episode.way=3", "episode.train.way=3", "budget.steps=0", "outputs=other") == 0
    )
    begun = load_file(run_folder("other") / "checkpoints" / "last.safetensors")
    assert begun["params/carried.decay"] == 1 and not begun["params/carried.mean.backbone.convs.0.weight"].any()
    assert torch.equal(begun["params/backbone.convs.0.weight"], last["params/backbone.convs.0.weight"])
    capsys.readouterr()
    assert main(["evaluate", f"run={folder}", "way=3"]) == 2
    assert "has 5 outputs, one for each class of an episode" in capsys.readouterr().err


def test_what_is_carried_is_skipped_with_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    meta_grad, calls = Reptile.meta_grad, iter(range(100))

    def spoilt(self: Reptile, *given: Any) -> Any:
        grads, logs = meta_grad(self, *given)
        return (grads | {"carried.decay": grads["carried.decay"] / 0}, logs) if next(calls) == 2 else (grads, logs)

    monkeypatch.setattr(Reptile, "meta_grad", spoilt)
    words = ["algo=reptile", "budget.steps=6", "budget.validate_every=6", "budget.log_every=6", "engine.on_nan=skip"]
    assert train(*words) == 0
    (row,) = [row for row in rows(run_folder()) if row["split"] == "train"]
    assert row["lost_steps"] == 1
    last = load_file(run_folder() / "checkpoints" / "last.safetensors")
    assert last["params/carried.decay"].item() == pytest.approx(0.999**5, rel=1e-5)


def test_killed_and_gone_on_with_it_is_the_same_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "metavision.cli", "train", *SMALL, "logger=none"]
    subprocess.run([*command, "outputs=whole"], check=True, capture_output=True)
    whole = run_folder("whole")
    rng = np.random.default_rng()
    kills = 0
    for line in sorted(rng.integers(2, 26, 3)):
        process = subprocess.Popen([*command, "outputs=killed"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            found = list(Path("killed").glob("*/seed0/metrics.jsonl"))
            if found and found[0].read_text().count("\n") >= line:
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.002)
        process.wait()
    assert kills == 3, "the run was to be killed three times before its end"
    subprocess.run([*command, "outputs=killed"], check=True, capture_output=True)
    killed = run_folder("killed")
    assert rows(killed) == rows(whole)
    for name in ("last", "best"):
        ours, theirs = (load_file(folder / "checkpoints" / f"{name}.safetensors") for folder in (killed, whole))
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[key], theirs[key]) for key in ours)
    np.testing.assert_array_equal(
        np.load(killed / "episodes.npz")["trained"], np.load(whole / "episodes.npz")["trained"]
    )


def test_killed_before_its_first_checkpoint_it_begins_anew() -> None:
    assert train("budget.steps=6") == 0
    folder = run_folder()
    whole = rows(folder)
    for name in ("DONE", *(f"checkpoints/{name}.safetensors" for name in ("last", "previous", "best"))):
        (folder / name).unlink()
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text(lines[0])  # the validation before the first step
    assert train("budget.steps=6") == 0
    assert rows(folder) == whole


def test_killed_at_its_first_checkpoint_it_goes_on_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert train("budget.steps=6", "outputs=whole") == 0

    def killed(trainer: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("metavision.engine.train._Trainer.advance", killed)
        assert train("budget.steps=6", "outputs=killed") == 130
    assert train("budget.steps=6", "outputs=killed") == 0
    assert rows(run_folder("killed")) == rows(run_folder("whole"))


def test_a_run_goes_on_as_it_was_begun_whatever_would_be_chosen_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same bits, unless something else is asked for."""
    answers: list[Mapper] = []

    def measured(*_: object) -> Mapper:
        return answers.pop(0)

    def killed(trainer: object) -> None:
        raise KeyboardInterrupt

    def mapped(outputs: str) -> Mapper:
        about = json.loads((run_folder(outputs) / "provenance.json").read_text())["execution"]
        assert about["words"] == str(Mapper(**about["mapper"]))
        return Mapper(**about["mapper"])

    monkeypatch.setattr("metavision.build.REPAYS", 6)
    monkeypatch.setattr("metavision.build.tuned", measured)
    first, second = Mapper("vmap", 2), Mapper(channels_last=True)
    for outputs in ("whole", "killed", "other"):
        answers[:] = [first]
        with monkeypatch.context() as patch:
            if outputs != "whole":
                patch.setattr("metavision.engine.train._Trainer.advance", killed)
            assert train("budget.steps=6", f"outputs={outputs}") == (0 if outputs == "whole" else 130)
        assert mapped(outputs) == first
    assert train("budget.steps=6", "outputs=killed") == 0  # nothing is measured
    assert mapped("killed") == first
    assert rows(run_folder("killed")) == rows(run_folder("whole"))
    answers[:] = [second]
    assert train("budget.steps=6", "outputs=other", "engine.memory=1") == 0
    assert mapped("other") == second and not answers
    assert train("budget.steps=6", "outputs=whole", "rerun=true", "engine.mapping=loop", "engine.explicit=false") == 0
    assert mapped("whole") == second


def test_long_runs_measure_what_is_fastest_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["episode.query=3", "budget.validation_episodes=4", "budget.test_episodes=4"]
    assert train(*words, "budget.steps=2", "outputs=short") == 0
    assert ", as measured for" not in capsys.readouterr().err
    monkeypatch.setattr("metavision.build.REPAYS", 3)
    for seed in (0, 1):
        assert train(*words, "budget.steps=3", f"seed={seed}") == 0
        (line,) = [line for line in capsys.readouterr().err.splitlines() if ", as measured for" in line]
        (folder,) = Path("outputs").glob(f"*/seed{seed}")
        chosen = json.loads((folder / "provenance.json").read_text())["execution"]["words"]
        assert line.startswith(f"engine: {chosen}")


def test_two_at_once_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "metavision.cli", "train", *SMALL, "logger=none", "budget.steps=5000"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not list(Path("outputs").glob("*/seed0/metrics.jsonl")):
            assert process.poll() is None
            time.sleep(0.02)
        assert train("budget.steps=5000") == 2
        assert "another process is in" in capsys.readouterr().err
    finally:
        process.kill()
        process.wait()


def test_a_loss_that_is_not_finite_stops_with_the_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("optimizer=sgd", "optimizer.lr=1e30", "norm=none") == 1
    error = capsys.readouterr().err
    assert "at step" in error.splitlines()[-1] and "the last good checkpoint is" in error
    (last,) = Path("outputs").glob("*/seed0/checkpoints/last.safetensors")
    assert all(value.isfinite().all() for value in load_file(last).values())


def test_patience_ends_a_run_that_no_longer_improves() -> None:
    assert train("optimizer=sgd", "optimizer.lr=1e-12", "budget.patience=2") == 0
    validated = [row["step"] for row in rows(run_folder()) if row["split"] == "val"]
    assert validated == [0, 20, 40]
    assert json.loads((run_folder() / "result.json").read_text())["step"] == 0


def test_multirun_runs_every_combination(capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["logger=none", "seed=0,1", "budget.steps=2", "references=[untrained]"]
    assert main(["train", "-m", *SMALL, *settings]) == 0
    table = capsys.readouterr().out.split("all of them")[1]
    for seed in (0, 1):
        assert f"/seed{seed}" in table
    assert "minus untrained" in table and "†" in table and "failed" not in table
    assert sorted(path.parent.name for path in Path("outputs").glob("*/*/DONE")) == ["seed0", "seed1"]
    assert len(list(Path("outputs").glob("maml-glyphs-*"))) == 1


def test_a_failure_ends_no_other_job_and_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["logger=none", "budget.steps=2", "episode.way=5,5000", "references=[]"]
    assert main(["train", "-m", *SMALL, *words]) == 2
    out = capsys.readouterr().out
    assert "failed: " in out and "episode.way=5000" in out.split("failed: ")[1]
    assert len(list(Path("outputs").glob("maml-glyphs-*/seed0/DONE"))) == 1


def test_an_interrupted_multirun_ends(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("metavision.cli.training.plan_of", interrupted)
    assert main(["train", "-m", *SMALL, "logger=none", "seed=0,1,2"]) == 130
    assert capsys.readouterr().err.count("interrupted") == 1


HELPS = """
import sys
from metavision.cli.__main__ import VERBS, main
for words in (["--help"], *([verb, "--help"] for verb in VERBS)):
    try:
        code = main(words)
    except SystemExit as end:  # of a parser
        code = end.code
    assert not code, words
    if "torch" in sys.modules:
        sys.exit(f"{' '.join(words)} imports torch")
print(f"helped with {len(VERBS)} verbs")
"""


def test_help_is_quick_and_imports_no_torch() -> None:
    done = subprocess.run([sys.executable, "-c", HELPS], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"helped with {len(VERBS)} verbs"


def test_completion(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for line, word in {
        "metavision tr": "train ",
        "metavision train algo=ma": "algo=maml",
        "metavision train episode.sh": "episode.shot=",
        "metavision adapt backbone=pi": "backbone=pixels",
        "metavision predict flowers.classifier --o": "--out ",
        "metavision bench st": "startup ",
    }.items():
        monkeypatch.setitem(os.environ, "COMP_LINE", line)
        assert main(["completion", "query"]) == 0
        assert word in capsys.readouterr().out.splitlines()
