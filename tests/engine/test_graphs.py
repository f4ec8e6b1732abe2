"""What surrounds a CUDA graph, with a recording that runs the function again: no device is needed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from metavision import trees
from metavision.engine.graphs import KEPT, Replayed, same
from metavision.engine.mapping import Mapper
from metavision.seeds import generator
from metavision.types import Meta
from tests.algorithms.builds import built, food
from tests.conftest import toy_tasks


class Recorder:
    """As a graph does, reads and writes where it did when it recorded; and counts."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, function: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        self.recorded += 1
        outputs = function()  # draws random numbers, as a warm-up does
        for tensor in trees.tensors(outputs):
            tensor.zero_()  # a capture computes nothing

        def replay() -> None:
            self.replayed += 1
            for old, new in zip(trees.tensors(outputs), trees.tensors(function()), strict=True):
                old.copy_(new)

        return replay, outputs


def test_a_function_is_recorded_once_and_replayed_on_what_it_is_given() -> None:
    recorder, given = Recorder(), {"x": torch.ones(3), "n": 2}
    replayed = Replayed(recorder)
    doubled = [replayed(lambda g: (g["x"] * g["n"], "words"), {"x": x, "n": 2}, "double") for x in torch.eye(3)]
    assert (recorder.recorded, recorder.replayed) == (1, 3)
    assert torch.equal(torch.stack([x for x, _ in doubled]), 2 * torch.eye(3))  # no output is overwritten by a later
    assert {words for _, words in doubled} == {"words"}
    assert torch.equal(given["x"], torch.ones(3))  # nor is an input


def test_other_shapes_other_values_and_other_functions_are_recorded_anew() -> None:
    recorder = Recorder()
    replayed = Replayed(recorder)
    for x, n, name in [
        (torch.ones(3), 1, "a"),
        (torch.ones(4), 1, "a"),
        (torch.ones(3, dtype=torch.float64), 1, "a"),
        (torch.ones(3), 2, "a"),
        (torch.ones(3), 1, "b"),
    ]:
        for _ in range(2):
            assert torch.equal(replayed(lambda given: given[0] + given[1], (x, n), name), x + n)
    assert recorder.recorded == 5


def test_the_last_few_recordings_are_kept() -> None:
    recorder = Recorder()
    replayed = Replayed(recorder)
    for name in (*range(KEPT), 0, KEPT, 0, 1):  # the 1 was the longest unused as one too many came
        replayed(lambda x: x + 1, torch.ones(1), name)
    assert recorder.recorded == KEPT + 2


def test_recording_draws_no_random_numbers() -> None:
    replayed, x = Replayed(Recorder()), torch.ones(3)
    for _ in range(2):  # with a recording, and without
        torch.manual_seed(5)
        expected = torch.rand(3), torch.rand(3)
        torch.manual_seed(5)
        assert torch.equal(replayed(torch.rand_like, x, "draw"), expected[0])
        assert torch.equal(torch.rand(3), expected[1])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["maml", "reptile", "imaml", "protonet", "baseline"])
def test_a_replayed_meta_gradient_is_that_of_its_weights_and_tasks(name: str) -> None:
    algorithm, recorder, graph = built(name), Recorder(), Mapper("graph", 2)
    graph.__dict__["_replayed"] = Replayed(recorder)
    first = algorithm.init(generator("graphs"))
    tasks = food(algorithm, toy_tasks(tasks=4))
    # Smaller ones, as the decay that Reptile carries is 1 at most.
    for meta, at in ((first, slice(0, 3)), (Meta(trees.scale(first.params, 0.9), {}), slice(1, 4))):
        found = graph.meta_grad(algorithm, meta, trees.index(tasks, at))
        torch.testing.assert_close(found, algorithm.meta_grad(meta, trees.index(tasks, at), Mapper("vmap", 2)))
    assert (recorder.recorded, recorder.replayed) == (1, 2)


def test_algorithms_are_the_same_where_their_settings_are() -> None:
    algorithm = built("maml")
    assert same(algorithm) == same(replace(algorithm)) == same(algorithm.at(0.5))
    assert same(algorithm) != same(replace(algorithm, steps=2))
    assert same(algorithm) != same(replace(algorithm, rule=replace(algorithm.rule, lr=0.5)))
    assert same(algorithm) != same(built("maml"))  # another network
    changing = built("mamlpp")
    assert same(changing.at(0.1)) != same(changing.at(0.2))
