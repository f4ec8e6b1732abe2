"""The mean of what several processes find is what one would find, for every algorithm: without any process."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from metavision import trees
from metavision.algorithms.base import Algorithm
from metavision.engine.mapping import Mapper
from metavision.nn import shared
from metavision.seeds import generator
from metavision.types import Meta, Metrics, P
from tests.algorithms.builds import NAMES, built, food
from tests.conftest import toy_tasks

pytestmark = pytest.mark.usefixtures("float64")
PRETRAINED = [name for name in NAMES if built(name).diet == "batches"]


def averaged(parts: Sequence[tuple[P, Metrics]], weights: Sequence[float]) -> tuple[P, Metrics]:
    def mean(found: Sequence[P]) -> P:
        return {name: sum(w * part[name] for w, part in zip(weights, found, strict=True)) for name in found[0]}

    return mean([grads for grads, _ in parts]), mean([logs for _, logs in parts])


def assert_same(found: tuple[P, Metrics], whole: tuple[P, Metrics]) -> None:
    """To 1e-10 of the gradient's norm."""
    apart = trees.norm(trees.add(found[0], trees.scale(whole[0], -1.0)))
    assert apart <= 1e-10 * trees.norm(whole[0])
    torch.testing.assert_close(found[1], whole[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shares", [(2, 1), (1, 1, 1)])
@pytest.mark.parametrize("name", NAMES)
def test_tasks_are_divided(name: str, shares: tuple[int, ...]) -> None:
    algorithm = built(name)
    meta, tasks = algorithm.init(generator("laws")), food(algorithm, toy_tasks(tasks=3))
    whole = algorithm.meta_grad(meta, tasks, Mapper())
    ends = torch.tensor(shares).cumsum(0).tolist()
    slices = [slice(end - n, end) for n, end in zip(shares, ends, strict=True)]
    parts = [algorithm.meta_grad(meta, trees.index(tasks, part), Mapper()) for part in slices]
    assert_same(averaged(parts, [n / 3 for n in shares]), whole)


@pytest.mark.parametrize("norm", ["running", "group"])
@pytest.mark.parametrize("name", PRETRAINED)
def test_the_images_of_a_batch_are_divided(name: str, norm: str) -> None:
    """Unevenly, in threads that stand for processes and add up what their layers ask for."""
    algorithm = built(name, f"norm={norm}")
    meta, batch = algorithm.init(generator("laws")), food(algorithm, toy_tasks(tasks=1))
    images = batch.x.shape[1]
    places = [slice(0, 6), slice(6, 10), slice(10, images)]
    parts = [batch._replace(x=batch.x[:, at], y=batch.y[:, at]) for at in places]
    whole = algorithm.meta_grad(meta, batch, Mapper())
    weights = [part.y.shape[1] / images for part in parts]
    each = [built(name, f"norm={norm}") for _ in parts]  # a call puts its parameters into the module
    assert_same(averaged(side_by_side(each, meta, parts), weights), whole)


def side_by_side(each: Sequence[Algorithm], meta: Meta, parts: Sequence[Any]) -> list[tuple[P, Metrics]]:
    """`meta_grad` of every part at once, with sums over all."""
    given: list[torch.Tensor] = [torch.empty(0)] * len(parts)
    meeting = threading.Barrier(len(parts), timeout=60)

    def work(number: int) -> tuple[P, Metrics]:
        def total(x: torch.Tensor) -> torch.Tensor:
            given[number] = x.clone()
            meeting.wait()
            x.copy_(torch.stack(given).sum(0))
            meeting.wait()
            return x

        with shared.over(total):
            return each[number].meta_grad(meta, parts[number], Mapper(explicit=True))

    with ThreadPoolExecutor(len(parts)) as threads:
        return list(threads.map(work, range(len(parts))))
