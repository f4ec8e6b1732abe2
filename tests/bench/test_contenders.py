"""All contenders compute the same, and one that does not is found out."""

import math
from typing import Any

import pytest
import torch

from metavision import trees
from metavision.adapters import optional
from metavision.bench import contenders
from metavision.bench.contenders import OURS, PEERS, TOLERANCE, call, chosen, differences, distance
from metavision.bench.peers.network import Network
from metavision.bench.work import Work
from metavision.engine.mapping import Mapper
from metavision.errors import InputError
from metavision.nn import functional
from metavision.types import Inputs
from tests.bench.works import ADAPTED, TRAINED

CPU = torch.device("cpu")
PEER_WARNS = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def same(found: dict[str, float | str]) -> None:
    assert found
    for name, apart in found.items():
        if isinstance(apart, str):
            assert "not installed" in apart, f"{name}: {apart}"
        else:
            assert apart < TOLERANCE, name


@PEER_WARNS
@pytest.mark.parametrize("work", TRAINED, ids=lambda work: work.name)
def test_meta_gradients_are_equal(work: Work) -> None:
    same(differences(work, "train", 2, CPU, chosen(work, "train", 2, CPU)))


@PEER_WARNS
@pytest.mark.parametrize("work", ADAPTED, ids=lambda work: work.name)
def test_answers_to_a_new_task_are_equal(work: Work) -> None:
    same(differences(work, "adapt", 1, CPU, chosen(work, "adapt", 1, CPU)))


@PEER_WARNS
def test_every_peer_is_held_against_ours_at_something() -> None:
    for name in PEERS:
        found = [work for work in TRAINED if name in contenders.contenders(work, "train")]
        assert found, name


@pytest.mark.parametrize("work", TRAINED, ids=lambda work: work.name)
def test_the_network_of_peers_is_ours(work: Work) -> None:
    meta = work.start(CPU, torch.float64)
    net = Network(work, meta, CPU, torch.float64)
    x = work.tasks(1, CPU, torch.float64).support.x[0]
    ours = functional.apply(work.algorithm().backbone, trees.select(meta.params, "backbone"), {}, Inputs(x))
    torch.testing.assert_close(net.backbone(x), ours)
    assert net.training and {p.dtype for p in net.parameters()} == {torch.float64}


def test_a_meta_gradient_is_the_mean_over_tasks() -> None:
    """And of these alone: nothing is left over from the call before."""
    pytest.importorskip("higher")
    work = TRAINED[0]
    both = call("higher", work, "train", 2, CPU, torch.float64)
    first, again = both(), both()
    assert distance(first, again) == 0
    alone = call("higher", work, "train", 1, CPU, torch.float64)()
    assert distance(alone, first) > 0.01


def test_a_distance_is_relative_and_counts_what_only_one_has() -> None:
    ours = {"a": torch.tensor([3.0, 4.0], dtype=torch.float64)}
    assert distance(ours, ours) == 0
    assert distance({**ours, "b": torch.tensor([0.0], dtype=torch.float64)}, ours) == 0
    assert distance({**ours, "b": torch.tensor([5.0], dtype=torch.float64)}, ours) == pytest.approx(1)
    assert distance({}, ours) == pytest.approx(1)
    assert distance({"a": 2 * ours["a"]}, ours) == pytest.approx(1)


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_that_is_not_installed_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(module: str) -> Any:
        raise ImportError(f"No module named {module!r}")

    monkeypatch.setattr(optional.importlib, "import_module", absent)
    work = next(work for work in TRAINED if name in contenders.contenders(work, "train"))
    found = differences(work, "train", 1, CPU, Mapper())[name]
    assert isinstance(found, str) and "is not installed" in found and name.lower() in found
    with pytest.raises(InputError, match="is not installed"):
        call(name, work, "train", 1, CPU, torch.float32)


def test_ours_is_what_an_engine_with_one_task_after_another_gives() -> None:
    work = TRAINED[0]
    meta, tasks = work.start(CPU, torch.float64), work.tasks(2, CPU, torch.float64)
    expected, _ = work.algorithm().meta_grad(meta, tasks, Mapper("loop"))
    found = call(OURS, work, "train", 2, CPU, torch.float64, chosen(work, "train", 2, CPU))()
    assert found.keys() == expected.keys()
    assert math.isclose(distance(found, expected), 0, abs_tol=1e-10)


def test_on_a_gpu_ours_is_what_is_measured_to_be_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, graph = Mapper(), Mapper("graph", 2)
    monkeypatch.setattr(contenders, "candidates", lambda *_: [loop, graph])
    monkeypatch.setattr(contenders, "timed", lambda mappers, _: dict(zip(mappers, (2.0, 1.0), strict=True)))
    found = chosen(TRAINED[0], "train", 2, torch.device("meta"))
    assert found == graph and found is not graph, "what was recorded is not held"
