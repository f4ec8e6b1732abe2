"""The number of threads: by a clock of the test's own, by what the system grants, and kept for a run that goes on."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from metavision import cores
from metavision.cli.__main__ import main
from metavision.engine import threads
from metavision.engine.remembered import remembered
from tests.cli.test_runs import run_folder


class Machine:
    """Where a step takes as long as is said by its number of threads, the first time ten times that."""

    def __init__(self, seconds: dict[int, float]) -> None:
        self.seconds, self.now, self.met = seconds, 0.0, set[int]()

    def step(self) -> None:
        number = torch.get_num_threads()
        self.now += self.seconds[number] * (1 if number in self.met else 10)
        self.met.add(number)


@pytest.mark.parametrize(
    ("seconds", "most", "best"),
    [
        ({1: 1.0, 2: 0.5}, 2, 2),
        ({1: 1.0, 2: 0.95}, 2, 1),  # that little is left to others
        ({1: 0.022, 2: 3.0}, 2, 1),
        ({1: 1.0, 2: 0.6, 4: 0.4, 6: 0.3}, 6, 6),
        ({1: 1.0, 2: 0.6, 4: 0.7}, 16, 2),  # 8 and 16 are not tried
    ],
)
def test_as_many_threads_as_pay(seconds: dict[int, float], most: int, best: int) -> None:
    machine, before = Machine(seconds), torch.get_num_threads()
    found = threads.fastest(machine.step, most, lambda: machine.now)
    assert next(iter(found)) == best and found == pytest.approx({n: seconds[n] for n in found})
    assert torch.get_num_threads() == before


def test_a_slow_machine_is_asked_few_times() -> None:
    machine = Machine({1: 1000.0, 2: 2000.0})
    assert next(iter(threads.fastest(machine.step, 2, lambda: machine.now))) == 1
    assert machine.now == 11 * 3000  # to warm up, and once more


@pytest.mark.parametrize(
    ("files", "granted"),
    [
        ({}, math.inf),
        ({"cpu.max": "max 100000\n"}, math.inf),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
    ],
)
def test_the_quota_of_a_container(files: dict[str, str], granted: float, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cores.quota(tmp_path) == granted


def test_no_more_than_are_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "THREADS", 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    for granted, number in ((math.inf, 6), (2.5, 3), (0.2, 1)):
        monkeypatch.setattr(cores, "quota", lambda granted=granted: granted)
        assert threads.available() == number


def test_what_was_measured_is_kept(cache: Path) -> None:
    calls = []

    def measure() -> dict[str, Any]:
        calls.append(1)
        return {"answer": len(calls)}

    assert [remembered({"a": 1}, measure, lambda found: found["answer"]) for _ in range(2)] == [1] * 2
    assert remembered({"a": 2}, measure, lambda found: found["answer"]) == 2
    for path in (cache / "engine").glob("*.json"):
        path.write_text("{")
    assert remembered({"a": 1}, measure, lambda found: found["answer"]) == 3


def test_a_long_run_measures_and_goes_on_with_what_it_chose(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(threads, "available", lambda: 3)
    monkeypatch.setattr(threads, "REPAYS", 10)
    asked = []

    def fastest(step: Any, most: int) -> dict[int, float]:
        step()
        asked.append(most)
        return {2: 0.5, 1: 1.0, 3: 0.6}

    monkeypatch.setattr(threads, "fastest", fastest)
    few = ["budget.validation_episodes=2", "budget.test_episodes=2", "episode.query=2", "references=[]", "logger=none"]
    command = ["train", "algo=protonet", "backbone.filters=4", *few, "budget.steps=10"]

    def used() -> int:
        return json.loads((run_folder() / "provenance.json").read_text())["threads"]

    assert main([*command, "budget.steps=9", "outputs=short"]) == 0 and not asked
    with monkeypatch.context() as patch:
        patch.setattr("metavision.engine.train._Trainer.advance", _interrupt)
        assert main(command) == 130
    assert asked == [3] and used() == 2
    assert "threads: 2 of 3" in capsys.readouterr().err
    (run_folder() / "provenance.json").write_text('{"threads": 3}')
    assert main(command) == 0  # goes on
    assert asked == [3] and used() == 3
    assert main([*command, "rerun=true"]) == 0  # remembers
    assert asked == [3] and used() == 2


def _interrupt(trainer: Any) -> None:
    raise KeyboardInterrupt
