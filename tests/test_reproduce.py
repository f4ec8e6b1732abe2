"""`make reproduce`: what lags most comes first, time is kept, and what is finished is stored."""

import json
import math
import shutil
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from metavision.cli.__main__ import main
from metavision.errors import InputError
from tests.cli.test_runs import SMALL
from tests.scripts import script

reproduce = script("reproduce")
results = reproduce.results
STORED = results.RUNS / "maml-omniglot-6e9fe01e"
MAML, MAML5, PROTONET, WIDE = ASKED = (
    "maml-omniglot-5w1s",
    "maml-omniglot-5w5s",
    "protonet-omniglot-5w1s",
    "r2d2-omniglot-5w1s-conv512",
)


@pytest.fixture
def course(tmp_path: Path) -> Any:
    """Some experiments, and no run."""
    for name in ("experiments", "runs"):
        (tmp_path / name).mkdir()
    for name in (*ASKED, "metabaseline-miniimagenet-5w1s-resnet12"):
        shutil.copy(results.EXPERIMENTS / f"{name}.yaml", tmp_path / "experiments")
    return reproduce.Course("short", 3600, tmp_path / "experiments", tmp_path / "runs", tmp_path / "work")


def stored(course: Any, algo: str, accuracy: float, budget: str = "short", tasks: int = 32) -> Path:
    """A run on Omniglot, 5-way 1-shot, with the settings of MAML's, but for the tasks a step."""
    folder = course.stored / f"{algo}-omniglot-{len(list(course.stored.iterdir())):08x}"
    shutil.copytree(STORED, folder)
    result, config = folder / "seed0" / "result.json", folder / "seed0" / "config.yaml"
    said = json.loads(result.read_text())
    said["accuracy"]["mean"] = accuracy / 100
    result.write_text(json.dumps(said))
    asked = yaml.safe_load(config.read_text())
    asked["budget"]["name"], asked["episode"]["meta_batch"], asked["data"]["split"] = budget, tasks, "finn"
    config.write_text(yaml.safe_dump(asked))
    return folder


def test_rows_without_a_run_come_first_and_then_what_falls_furthest_short(course: Any) -> None:
    known_first = [MAML, PROTONET, MAML5]
    assert reproduce.missing(course, heavy=False) == known_first, "nothing for a GPU, nothing that needs another run"
    assert reproduce.missing(course, heavy=True) == [*known_first, WIDE]

    stored(course, "maml", 97.7)  # of 98.7, and with other settings than the short budget's
    stored(course, "protonet", 97.3)  # of 98.8
    assert reproduce.missing(course, heavy=False) == [MAML5, PROTONET, MAML]
    stored(course, "protonet", 98.0)  # the best counts
    assert reproduce.missing(course, heavy=False) == [MAML5, MAML, PROTONET]


def test_a_run_at_the_experiments_settings_counts_for_its_budget_and_for_less(course: Any) -> None:
    full = replace(course, budget="full")
    short = stored(course, "maml", 97.7, tasks=8)
    assert MAML not in reproduce.missing(course, heavy=False) and MAML in reproduce.missing(full, heavy=False)
    shutil.rmtree(short)
    stored(course, "maml", 98.6, "full")  # of 32 tasks a step, as in print
    assert MAML not in reproduce.missing(course, heavy=False) + reproduce.missing(full, heavy=False)


def test_nothing_is_said_against_a_figure_from_memory(course: Any) -> None:
    run = results.Stored.read(stored(course, "maml", 90.0))
    experiment = results.Experiment.read(course.experiments / f"{MAML}.yaml")
    assert reproduce.lag(experiment, []) == math.inf and reproduce.lag(experiment, [run]) == pytest.approx(8.7)
    recalled = replace(experiment, paper={**experiment.paper, "verified": "false"})
    assert reproduce.lag(recalled, [run]) == 0


def test_one_after_another_until_the_time_is_over_and_none_stops_another(
    course: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, limits = [100.0], []

    def call(name: str, command: list[str], seconds: float, **_: Any) -> Any:
        assert f"experiment={name}" in command and "budget=short" in command and "seed=3" in command
        limits.append(seconds)
        now[0] += min(seconds, 1500)
        return reproduce.Report(name, 130 if seconds < 1500 else 1, 1500.0, seconds < 1500)

    monkeypatch.setattr(reproduce, "call", call)
    monkeypatch.setattr(reproduce, "time", SimpleNamespace(monotonic=lambda: now[0]))
    reports = list(reproduce.follow(replace(course, words=["seed=3"]), [*ASKED, MAML], now[0]))
    assert [report.name for report in reports] == list(ASKED[:3]), "no time is left for a fourth"
    assert limits == [3480, 1980, 480] and [report.failed for report in reports] == [True, True, False]
    (course.work / "logs" / f"{MAML}.txt").write_text("first\nmetavision: error: no data\n")
    assert reproduce.said(course, reports[0]).endswith("ends in: metavision: error: no data")
    assert reproduce.said(course, reports[2]) == f"{PROTONET}: cut off at its beginning; the same command goes on"


def test_a_finished_run_is_stored_once(
    course: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(name: str, command: list[str], seconds: float, **_: Any) -> Any:
        return reproduce.Report(name, main(command[3:]), seconds, cut=False)  # behind python -m metavision.cli

    store = reproduce.store
    monkeypatch.setattr(reproduce, "call", call)
    monkeypatch.setattr(reproduce, "store", lambda run, runs, dirty: store(run, runs, dirty=True))  # of this tree
    words = [word for word in SMALL if "algo" not in word and "steps" not in word]
    course = replace(course, words=[*words, "data=glyphs", "episode.train.way=5", "budget.steps=2"])
    for _ in range(2):  # the second finds it finished, and stored
        (report,) = reproduce.follow(course, [PROTONET], time.monotonic())
        assert report.rc == 0
    (kept,) = course.stored.iterdir()
    assert kept.name.startswith("protonet-glyphs-") and (kept / "seed0" / "DONE").is_file()
    result = json.loads((kept / "seed0" / "result.json").read_text())
    assert reproduce.said(course, report).startswith(f"{PROTONET}: {100 * result['accuracy']['mean']:.2f} ± ")
    assert capsys.readouterr().out.count("stored: ") == 1


def test_what_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="there is no experiment maml-omniglot"):
        reproduce.main(["--experiments", "maml-omniglot"])
    monkeypatch.setattr(reproduce.provenance, "git", lambda: {"commit": "c", "dirty": True})
    with pytest.raises(InputError, match="commit what is changed"):
        reproduce.main(["--experiments", MAML])
    assert reproduce.main(["--experiments", f"{MAML},{MAML5}", "--list"]) == 0
    assert capsys.readouterr().out == f"{MAML}\n{MAML5}\n"
