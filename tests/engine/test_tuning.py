"""The choice of a mapper by measurement, by a clock of our own."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from metavision import build
from metavision.data.batches import Episodes
from metavision.data.episodes import EpisodeSampler
from metavision.data.images import Images
from metavision.data.resident import resident
from metavision.data.spec import EpisodeSpec
from metavision.engine.mapping import Mapper
from metavision.engine.tuning import HOPELESS, ROUNDS, SECONDS, tuned
from metavision.errors import InputError
from metavision.seeds import generator
from tests.algorithms.builds import built, composed
from tests.conftest import toy_source

CPU = torch.device("cpu")
LOOP, LAST, TWO = Mapper(), Mapper(channels_last=True), Mapper("vmap", 2)
ALL = (LOOP, LAST, TWO)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("METAVISION_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Machine:
    """On which a step by a mapper takes as long as is said; the first one twice as long."""

    def __init__(self, seconds: dict[Mapper, float], faults: dict[Mapper, Exception] | None = None) -> None:
        self.seconds, self.faults = seconds, faults or {}
        self.now, self.steps = 0.0, Counter[Mapper]()

    def step(self, mapper: Mapper) -> None:
        if mapper in self.faults:
            raise self.faults[mapper]
        self.now += self.seconds[mapper] * (1 if self.steps[mapper] else 2)
        self.steps[mapper] += 1
        torch.rand(3)

    def tuned(self, setup: dict[str, Any] | None = None) -> Mapper:
        return tuned(setup or {"a": 1}, lambda: ALL, self.step, lambda: self.now)


@pytest.mark.parametrize("fastest", ALL)
def test_the_fastest_is_chosen_and_said_in_one_line(fastest: Mapper, capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine({mapper: 0.010 if mapper == fastest else 0.014 for mapper in ALL})
    assert machine.tuned() == fastest
    assert machine.steps == dict.fromkeys(ALL, 1 + ROUNDS)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"engine: {fastest}, as measured ")
    assert f"{fastest} 10 ms" in line and line.count("14 ms") == 2


def test_it_is_measured_once_for_a_set_up(capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine({LOOP: 2.0, LAST: 1.5, TWO: 1.0})
    first, steps = machine.tuned(), dict(machine.steps)
    capsys.readouterr()
    assert machine.tuned() == first == TWO
    assert machine.steps == steps
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"engine: {TWO}, as measured ")
    machine.tuned({"a": 2})
    assert machine.steps != steps


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"fastest": {"strategy": "loop", "speed": 1}}', '{"slowest": {}}'])
def test_what_is_damaged_is_measured_again(damage: str, own_cache: Path) -> None:
    machine = Machine(dict.fromkeys(ALL, 1.0) | {LAST: 0.5})
    machine.tuned()
    (kept,) = own_cache.rglob("*.json")
    assert json.loads(kept.read_text())["setup"] == {"a": 1}
    kept.write_text(damage)
    before = machine.steps.total()
    assert machine.tuned() == LAST and machine.steps.total() > before
    assert machine.tuned() == LAST


def test_a_cache_that_cannot_be_written_is_no_obstacle(own_cache: Path) -> None:
    own_cache.write_text("a file")
    assert Machine({LOOP: 1.0, LAST: 2.0, TWO: 3.0}).tuned() == LOOP


def test_what_is_far_behind_is_measured_no_more_and_time_is_bounded() -> None:
    machine = Machine({LOOP: 1.0, LAST: 1.1 * HOPELESS, TWO: 0.9 * HOPELESS})
    machine.tuned()
    assert machine.steps == {LOOP: 1 + ROUNDS, LAST: 2, TWO: 1 + ROUNDS}
    slow = Machine(dict.fromkeys(ALL, SECONDS))
    slow.tuned({"a": "slow"})
    assert slow.steps == dict.fromkeys(ALL, 2)


def test_what_does_not_fit_or_cannot_be_captured_falls_out() -> None:
    faults: dict[Mapper, Exception] = {LOOP: torch.OutOfMemoryError("full"), TWO: InputError("can't be captured")}
    assert Machine({LOOP: 1.0, LAST: 2.0, TWO: 1.0}, faults).tuned() == LAST
    assert (
        Machine({LAST: 2.0, LOOP: 1.0, TWO: 3.0}, {LOOP: RuntimeError("no such kernel")}).tuned({"a": "kernel"}) == LAST
    )
    with pytest.raises(torch.OutOfMemoryError, match="full"):
        Machine({}, dict.fromkeys(ALL, torch.OutOfMemoryError("full"))).tuned({"b": 1})
    with pytest.raises(ZeroDivisionError):  # a mistake is none of the engine's to hide
        Machine({LOOP: 1.0, TWO: 1.0}, {LAST: ZeroDivisionError()}).tuned({"c": 1})


def test_what_fits_no_more_beside_what_others_have_recorded_falls_out() -> None:
    machine = Machine({LOOP: 1.0, LAST: 1.2, TWO: 1.3})

    def step(mapper: Mapper) -> None:
        if mapper == LAST and machine.steps[LAST] == 2:
            raise torch.OutOfMemoryError("full")
        machine.step(mapper)

    assert tuned({"full": 1}, lambda: ALL, step, lambda: machine.now) == LOOP
    assert machine.steps == {LOOP: 1 + ROUNDS, LAST: 2, TWO: 1 + ROUNDS}


def test_if_nothing_ran_the_first_has_another_chance() -> None:
    machine, failed = Machine({LOOP: 1.0}), set()

    def step(mapper: Mapper) -> None:
        if mapper not in failed:
            failed.add(mapper)
            raise torch.OutOfMemoryError("full")
        machine.step(mapper)

    assert tuned({"full": 2}, lambda: ALL, step, lambda: machine.now) == LOOP


def test_it_leaves_no_trace_in_the_random_state() -> None:
    state = torch.random.get_rng_state()
    Machine(dict.fromkeys(ALL, 1.0)).tuned()
    assert torch.equal(torch.random.get_rng_state(), state)


def test_without_cuda_in_use_it_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object) -> torch.Tensor:
        raise AssertionError("CUDA is started")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_rng_state", start)
    assert Machine(dict.fromkeys(ALL, 1.0)).tuned() == LOOP


def test_an_answer_is_for_the_number_of_tasks_that_a_process_has(monkeypatch: pytest.MonkeyPatch) -> None:
    config = composed("algo=protonet", "backbone.filters=4", "episode.meta_batch=4", "budget.steps=500")
    algorithm, kept = built("protonet", way=5), []
    tasks = Episodes(EpisodeSampler(toy_source(), EpisodeSpec(5, 1, 2), seed=0), Images(resident(toy_source(), CPU)))
    monkeypatch.setattr(build, "tuned", lambda setup, *_: kept.append(setup))
    for processes in (1, 2, 1):
        monkeypatch.setattr(build.ranks, "count", lambda processes=processes: processes)
        build.train_mapper(config, algorithm, algorithm.init(generator("tuning")), tasks, {})
    assert kept[0] == kept[2] != kept[1]
