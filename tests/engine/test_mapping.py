"""Mappers, and the rule that chooses one."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.util import find_spec
from typing import Any, ClassVar

import pytest
import torch

from metavision import trees
from metavision.algorithms.base import Algorithm, Score
from metavision.algorithms.maml import MAML
from metavision.engine import fitting
from metavision.engine.fitting import Wanted, candidates, fitted
from metavision.engine.footprint import MARGIN, Footprint, footprint
from metavision.engine.mapping import Mapper
from metavision.errors import InputError
from metavision.nn.mapped import mapped, together
from metavision.nn.modes import Modes, modes
from metavision.seeds import generator
from metavision.types import Meta, P
from tests.algorithms.builds import built
from tests.conftest import toy_tasks

GIB = 2**30
# What is chosen on a CPU for three tasks at once of a network of blocks, which are none without numba.
BLOCKS = Mapper("vmap", 3, channels_last=find_spec("numba") is not None, explicit=True)


def seen(mapper: Mapper, look: Callable[[P, Any], Any]) -> list[Any]:
    """What `look` finds within a function of a task, in a map and in a gradient."""
    found = []

    def score(params: P, task: torch.Tensor) -> Score:
        found.append(look(params, task))
        return (params["w"].sum() * task.sum()), {}

    params, tasks = {"w": torch.ones(2, 3, 4, 4)}, torch.ones(2, 5, 3, 8, 8)
    mapper.map(lambda params, task: score(params, task)[0], params, tasks)
    mapper.mean_grad(score, params, tasks)
    return found


def test_modes_hold_for_the_function_of_a_task_and_end_with_it() -> None:
    wanted = Modes(explicit=True, recompute=True)
    assert set(seen(Mapper(explicit=True, recompute=True), lambda *_: modes())) == {wanted}
    assert set(seen(Mapper("vmap", 2, explicit=True), lambda *_: modes())) == {Modes(explicit=True)}
    assert modes() == Modes()


@pytest.mark.parametrize("asked", [True, False])
def test_channels_lie_last_where_asked(asked: bool) -> None:
    def last(params: P, task: torch.Tensor) -> bool:
        return all(x.is_contiguous(memory_format=torch.channels_last) for x in (params["w"], task))

    assert set(seen(Mapper(channels_last=asked), last)) == {asked}


def test_a_gradient_lies_in_memory_as_its_parameter() -> None:
    params = {"w": torch.ones(2, 3, 4, 4)}
    grads, _ = Mapper(channels_last=True).mean_grad(lambda p, x: (p["w"].square().sum() * x, {}), params, torch.ones(2))
    assert grads["w"].stride() == params["w"].stride()
    assert torch.equal(grads["w"], 2 * params["w"])


@dataclass(frozen=True, eq=False, kw_only=True)
class Heavy(MAML):
    """Keeps a mebibyte in every one of its 64 steps, unless it recomputes and this saves it something."""

    saving: bool

    def score(self, meta: Meta, episode: Any) -> Score:
        sparing = self.saving and modes().recompute
        x = torch.zeros(2**20 // 4) + meta.params["head.bias"].sum()
        kept: list[torch.Tensor] = []
        for _ in range(64):
            kept = [x.exp()] if sparing else [*kept, x.exp()]
        return torch.stack([y.mean() for y in kept]).sum(), {}


@dataclass(frozen=True, eq=False, kw_only=True)
class Foreign(MAML):
    mapping: ClassVar[str] = "loop"


@cache
def maml() -> Algorithm:
    return built("maml")


def as_a(kind: type[MAML], **more: Any) -> MAML:
    """MAML as one of a class made of it."""
    return kind(**{field.name: getattr(maml(), field.name) for field in fields(maml())}, **more)


def heavy(*, saving: bool) -> Algorithm:
    return as_a(Heavy, saving=saving)


def rule(algorithm: Algorithm, *, train: bool = True, **wanted: Any) -> Mapper:
    meta, task = algorithm.init(generator("rule")), trees.index(toy_tasks(), slice(0, 1))
    return fitted(algorithm, meta, task, Wanted(**wanted), train=train)


def test_a_footprint_is_of_what_is_made_and_of_what_is_alive() -> None:
    with Footprint() as needs:
        a = torch.zeros(100, dtype=torch.uint8)
        b = a + 1
        del a
        b + 1  # made, and freed at once
    assert (needs.made, needs.peak, needs.alive, needs.exceeded) == (300, 200, 100, False)
    del b
    assert needs.alive == 0


def test_what_shares_memory_is_counted_once() -> None:
    given = torch.zeros(100, dtype=torch.uint8)
    with Footprint() as needs:
        given.add_(1)
        given[10:].view(9, 10)
        a = torch.ones(10, dtype=torch.uint8)
        part = a.add_(1).expand(50, 10)[:2]
        del a
    assert (needs.made, needs.peak, needs.alive, part.shape) == (10, 10, 10, (2, 10))
    del part
    assert needs.alive == 0


def test_a_trial_is_broken_off_where_it_takes_too_much_and_leaves_no_trace() -> None:
    algorithm, task = maml(), trees.index(toy_tasks(), slice(0, 1))
    meta, state = algorithm.init(generator("trial")), torch.random.get_rng_state()
    whole = footprint(algorithm, meta, task, Mapper(), train=True)
    part = footprint(algorithm, meta, task, Mapper(), train=True, most=whole.peak // 2)
    assert part.exceeded and part.calls < whole.calls
    assert part.mapped(10 * whole.made) == part.mapped_on_cpu(10 * whole.made) == 0
    again = footprint(algorithm, meta, task, Mapper("vmap", 1), train=True, most=2 * whole.made)
    assert not again.exceeded
    assert torch.equal(torch.random.get_rng_state(), state)


def test_on_a_cpu_large_tasks_go_one_after_another_and_tiny_ones_together() -> None:
    assert rule(heavy(saving=False)) == Mapper(channels_last=True, explicit=True)
    tiny = rule(replace(maml(), steps=20))
    assert tiny.strategy == "vmap" and tiny.chunk > 1
    assert tiny == replace(BLOCKS, chunk=tiny.chunk)
    assert rule(maml(), chunk=7) == replace(BLOCKS, chunk=7)
    assert rule(maml(), chunk=7, explicit=False) == Mapper("vmap", 7)
    assert rule(maml(), chunk=1, autocast=True) == Mapper(autocast=True, channels_last=True, explicit=True)


@pytest.mark.parametrize(("norm", "last"), [("batch", BLOCKS.channels_last), ("group", False)])
def test_kernels_of_blocks_alone_lie_channels_last_where_tasks_are_mapped(norm: str, last: bool) -> None:
    algorithm = built("maml", f"norm={norm}")
    assert rule(algorithm, chunk=3).channels_last is last
    assert not rule(algorithm, chunk=3, channels_last=False).channels_last
    assert not rule(algorithm, chunk=3, explicit=False).channels_last


def test_memory_bounds_how_many_are_mapped_at_once() -> None:
    algorithm, task = maml(), trees.index(toy_tasks(), slice(0, 1))
    meta, loop = algorithm.init(generator("rule")), rule(algorithm, mapping="loop")
    memory = 3.5 * MARGIN * footprint(algorithm, meta, task, loop, train=True).peak
    assert rule(algorithm, mapping="vmap", memory=memory / GIB) == BLOCKS
    assert rule(algorithm, mapping="vmap", memory=1e-9) == Mapper("vmap", 1, explicit=True)
    assert rule(algorithm, memory=memory / GIB) == BLOCKS
    for mapper in (Mapper("vmap", 3), BLOCKS):
        three = footprint(algorithm, meta, toy_tasks(tasks=3), mapper, train=True)
        one = footprint(algorithm, meta, task, replace(mapper, strategy="loop"), train=True)
        assert three.peak <= 3 * MARGIN * one.peak


def test_tasks_are_cut_into_equal_parts() -> None:
    tasks = torch.ones(32)

    def parts(mapper: Mapper) -> list[int]:
        found: list[int] = []

        def look(params: P, task: torch.Tensor) -> Score:
            found.append(len(together(task)) if mapped() else 1)
            return (params["w"] * task).sum(), {}

        mapper.mean_grad(look, {"w": torch.ones(1)}, tasks)
        return found

    assert parts(Mapper("vmap", 15)) == [11, 11, 10]
    assert parts(Mapper("vmap", 40)) == [32]
    assert parts(Mapper("loop")) == [1] * 32


def test_inner_steps_are_recomputed_where_a_task_takes_too_much_and_this_saves_it() -> None:
    assert not rule(heavy(saving=True), memory=0.25).recompute
    assert rule(heavy(saving=True), memory=0.03).recompute
    assert not rule(heavy(saving=False), memory=0.03).recompute
    assert not rule(heavy(saving=True), memory=0.03, recompute=False).recompute
    assert not rule(heavy(saving=True), memory=0.03, train=False).recompute
    assert rule(heavy(saving=True), mapping="loop", memory=0.03).recompute


def test_what_is_asked_for_is_done() -> None:
    for name in ("channels_last", "explicit", "recompute"):
        for value in (True, False):
            mapper = rule(maml(), mapping="loop", **{name: value})
            assert mapper.strategy == "loop" and getattr(mapper, name) is value
    assert all(rule(maml(), **{name: True}).strategy == "loop" for name in ("channels_last", "recompute"))
    assert rule(maml(), mapping="vmap", explicit=False, chunk=2) == Mapper("vmap", 2)


def test_foreign_code_is_left_as_it_is() -> None:
    foreign = as_a(Foreign)
    assert rule(foreign) == rule(foreign, mapping="vmap") == Mapper()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match=r"engine.mapping=graph needs a CUDA device, and this is cpu"):
        rule(maml(), mapping="graph")
    for name in ("channels_last", "recompute"):
        for mapping in ("vmap", "graph"):
            with pytest.raises(InputError, match=f"engine.{name}=true is of engine.mapping=loop"):
                Wanted(**{"mapping": mapping, name: True})
    assert rule(maml(), mapping="graph", train=False).strategy == "vmap"  # no gradient to be replayed


def test_candidates_are_what_is_left_open_the_rules_first() -> None:
    algorithm, task = maml(), trees.index(toy_tasks(), slice(0, 1))
    meta = algorithm.init(generator("rule"))

    def found(**wanted: Any) -> list[Mapper]:
        mappers = candidates(algorithm, meta, task, Wanted(**wanted))
        assert mappers[0] == fitted(algorithm, meta, task, Wanted(**wanted), train=True)
        return mappers

    loops = [Mapper(channels_last=last, explicit=explicit) for last in (False, True) for explicit in (False, True)]
    *some, together = sorted(found(), key=lambda mapper: mapper.chunk)
    assert set(some) == set(loops) and together.strategy == "vmap" and together.chunk > 1
    assert together.explicit
    assert set(found(explicit=True)) == {together, *(mapper for mapper in loops if mapper.explicit)}
    assert {mapper for mapper in found(explicit=False) if mapper.strategy == "loop"} == {*loops[::2]}
    assert found(chunk=3)[0] == BLOCKS
    assert found(mapping="loop") == [Mapper(channels_last=True, explicit=True)]


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice is made as on one; the trial run is here."""
    monkeypatch.setattr(fitting, "_place", lambda _: torch.device("cuda"))


@pytest.mark.usefixtures("as_on_a_gpu")
def test_on_a_gpu_explicit_derivatives_are_measured_where_tasks_are_mapped() -> None:
    algorithm, task = maml(), trees.index(toy_tasks(), slice(0, 1))
    meta = algorithm.init(generator("rule"))

    def found(**wanted: Any) -> list[Mapper]:
        return candidates(algorithm, meta, task, Wanted(memory=1.0, chunk=3, **wanted))

    plain = [Mapper("vmap", 3), Mapper("graph", 3)]
    explicit = [replace(mapper, explicit=True) for mapper in plain]
    assert found()[0] == plain[0] and set(found()) == {Mapper(), *plain, *explicit}
    assert set(found(explicit=True)) == {Mapper(explicit=True), *explicit}
    assert len(found(channels_last=True)) == 2 == len({mapper.explicit for mapper in found(channels_last=True)})


@pytest.mark.usefixtures("as_on_a_gpu")
def test_what_has_another_shape_in_every_step_is_not_recorded() -> None:
    algorithm, task = maml(), trees.index(toy_tasks(), slice(0, 1))
    meta, wanted = algorithm.init(generator("rule")), Wanted(memory=1.0)
    fixed, varied = (candidates(algorithm, meta, task, wanted, varied=varied) for varied in (False, True))
    assert {mapper.strategy for mapper in fixed} == {"loop", "vmap", "graph"}
    assert varied == [mapper for mapper in fixed if mapper.strategy != "graph"]
    graph = Wanted("graph", memory=1.0)
    assert fitted(algorithm, meta, task, graph, train=True).strategy == "graph"
    with pytest.raises(InputError, match=r"the sizes of episodes vary; engine.mapping=vmap does it"):
        fitted(algorithm, meta, task, graph, train=True, varied=True)


def test_candidates_take_one_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Mapper] = []

    def counted(algorithm: Algorithm, meta: Meta, task: Any, mapper: Mapper, **how: Any) -> Footprint:
        tried.append(mapper)
        return footprint(algorithm, meta, task, mapper, **how)

    monkeypatch.setattr(fitting, "footprint", counted)
    algorithm, task = maml(), trees.index(toy_tasks(), slice(0, 1))
    candidates(algorithm, algorithm.init(generator("rule")), task, Wanted())
    assert len(tried) == 1
