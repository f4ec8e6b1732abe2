"""The benchmark's contenders do the same work, and its rows are complete."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from metavision.adapters import easyfsl, learn2learn
from metavision.bench import data, tables
from metavision.bench.timing import interleaved
from metavision.data.ahead import BLOCK
from metavision.data.episodes import Draw, EpisodeSampler
from metavision.data.spec import EpisodeSpec
from metavision.errors import InputError
from tests.conftest import toy_source

IMAGES = np.random.default_rng(0).integers(0, 256, (80, 6, 6, 3), dtype=np.uint8)
LABELS = [i // 10 for i in range(80)]


def tasks(peer: str) -> Any:
    dataset = data.Tensors(IMAGES, LABELS)
    try:
        if peer == "learn2learn":
            episodes = learn2learn.episodes(dataset, LABELS, 3, 2, 4)
        else:
            episodes = easyfsl.episodes(dataset, 3, 2, 4)
        return [next(episodes) for _ in range(5)]
    except InputError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("peer", ["learn2learn", "easyfsl"])
def test_peers_give_tasks_of_the_data(peer: str) -> None:
    pixels = torch.from_numpy(IMAGES.transpose(0, 3, 1, 2).copy())
    for task in tasks(peer):
        images = task[0] if peer == "learn2learn" else torch.cat([task[0], task[2]])
        assert images.shape == (18, 3, 6, 6)
        found = [int((pixels == image).flatten(1).all(1).nonzero()) for image in images]
        assert len(set(found)) == 18 and len({LABELS[i] for i in found}) == 3


def test_rows_are_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"CLASSES": 6, "IMAGES": 22, "ROUNDS": 2, "TASKS": 2}.items():
        monkeypatch.setattr(data, name, value)
    rows = list(data.rows(torch.device("cpu")))
    assert len(rows) == 7
    for row in rows:
        assert row["metavision ms"] > 0
        assert row["missing"] or row["ratio"] > 0


def test_every_call_of_ours_draws_its_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    class Counting(EpisodeSampler):
        def __getitem__(self, i: Any) -> Draw:
            drawn.append(len(i))
            return super().__getitem__(i)

    monkeypatch.setattr(data, "EpisodeSampler", Counting)
    monkeypatch.setattr(data, "SPEC", EpisodeSpec(3, 2, 3))
    work = data._ours(toy_source(), torch.device("cpu"), None, None)
    for calls in (1, 2, 3):
        work()
        assert drawn == [BLOCK] * calls


def test_a_row_without_peers_has_no_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object) -> None:
        raise InputError("it is not installed")

    for peer in (easyfsl, learn2learn):
        monkeypatch.setattr(peer, "episodes", absent)
    monkeypatch.setattr(data, "ROUNDS", 2)
    row = data._row("none", data.Tensors(IMAGES, LABELS), list(map(str, LABELS)), lambda: None, torch.device("cpu"))
    assert set(row["missing"]) == {"learn2learn", "easyfsl"} and "ratio" not in row
    (table,) = tables.episodes([row])
    assert list(table.columns[-1].cells) == ["-"]
    json.dumps(row, allow_nan=False)


def test_contenders_take_turns_and_the_median_counts() -> None:
    calls: list[str] = []
    taken, now = {"a": [50, 9, 2, 1], "b": [50, 3, 3, 30]}, [0.0]

    def contender(name: str) -> Callable[[], None]:
        def work() -> None:
            now[0] += taken[name][calls.count(name)]
            calls.append(name)

        return work

    seconds = interleaved({"a": contender("a"), "b": contender("b")}, 3, lambda: now[0])
    assert calls == ["a", "b"] * 4 and seconds == {"a": 2.0, "b": 3.0}
