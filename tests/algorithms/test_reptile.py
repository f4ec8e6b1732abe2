"""Reptile against the update written out by hand, and its inner Adam against torch's."""

import weakref
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from metavision import trees
from metavision.algorithms.reptile import Reptile
from metavision.engine.mapping import Mapper
from metavision.errors import InputError
from metavision.rules.adam import Adam
from metavision.rules.sgd import SGD
from metavision.seeds import generator
from metavision.types import Examples, Meta, P, joined
from tests.algorithms.builds import built
from tests.algorithms.test_maml import Net
from tests.conftest import toy_tasks

pytestmark = pytest.mark.usefixtures("float64")


BEFORE = 3  # steps of other tasks that averages may come from


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("batch", [30, 15, 6])
def test_the_direction_is_the_way_from_the_mean_of_what_tasks_end_with(batch: int, keep: bool) -> None:
    tasks = toy_tasks(tasks=3, shot=5, query=5)
    words = [] if batch == 30 else [f"algo.batch={batch}"]
    algorithm = built("reptile", "algo.steps=4", "algo.rule.lr=0.02", f"algo.keep={keep}", *words)
    meta = algorithm.init(generator("reptile"))
    weights = {name: p for name, p in meta.params.items() if not name.startswith("carried.")}
    averages = {name: torch.rand_like(p) * (1 - 0.999**BEFORE) for name, p in weights.items()}
    if keep:
        state = {**trees.under("carried.mean", averages), "carried.decay": torch.tensor(0.999**BEFORE)}
        assert meta.params.keys() == weights.keys() | state.keys()
        meta = Meta({**weights, **state}, meta.buffers)
    ours, logs = algorithm.meta_grad(meta, tasks, Mapper("loop"))
    ends, losses = [], []
    for t in range(3):
        support, query, _ = trees.index(tasks, t)
        net = Net(algorithm, weights)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.02, betas=(0.0, 0.999))
        if keep:
            for name, p in net.named_parameters():
                kept = {"step": torch.tensor(float(BEFORE)), "exp_avg_sq": averages[name].clone()}
                optimizer.state[p] = {**kept, "exp_avg": torch.zeros_like(p)}
        by_class = [torch.cat([part.x[part.y == k] for part in (support, query)]) for k in range(3)]
        all_x, all_y = torch.stack(by_class, 1).flatten(0, 1), torch.arange(3).repeat(10)  # one of every class in turn
        for step in range(4):
            x, y = (every.roll(-step * batch, 0)[:batch] for every in (all_x, all_y))
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
        out = net(torch.cat([support.x, query.x]))
        losses.append(F.cross_entropy(out, torch.cat([support.y, query.y])).detach())
        end = {name: p.detach().clone() for name, p in net.named_parameters()}
        squares = {f"carried.mean.{name}": optimizer.state[p]["exp_avg_sq"] for name, p in net.named_parameters()}
        ends.append({**end, **squares, "carried.decay": torch.tensor(0.999 ** (BEFORE + 4))})
    for name, p in meta.params.items():
        expected = p - torch.stack([one[name] for one in ends]).mean(0)
        torch.testing.assert_close(ours[name], expected, rtol=1e-5, atol=1e-9 if "carried" in name else 1e-5)
    torch.testing.assert_close(logs["loss"], torch.stack(losses).mean(), rtol=1e-5, atol=1e-6)


def test_a_test_begins_with_what_training_has_kept() -> None:
    support, query, _ = trees.index(toy_tasks(), 0)
    algorithm = built("reptile", "algo.steps=2").for_evaluation()
    meta = algorithm.init(generator("reptile"))
    slow = {name: p + 100 if name.startswith("carried.mean.") else p for name, p in meta.params.items()}
    near, far = (algorithm.adapt(one, support) for one in (Meta(slow, {}), meta))
    moved = [
        trees.norm(trees.add(trees.select(end, "backbone"), trees.scale(trees.select(slow, "backbone"), -1.0)))
        for end in (near, far)
    ]
    assert moved[0] < moved[1] / 10
    assert algorithm.predict(meta, near, query.inputs).isfinite().all()


@pytest.mark.parametrize(
    ("way", "shots", "batch"), [(20, (5, 5), 20), (5, (8, 7), 10), (5, (5, 5), 10), (3, (1, 4), 4)]
)
def test_every_small_batch_has_every_class_as_often_to_one(way: int, shots: tuple[int, int], batch: int) -> None:
    """As published: 20-way of Omniglot, 15 training shots of mini-ImageNet; and with padding."""
    both = joined(*trees.index(toy_tasks(1, way, *shots), 0)[:2])
    n, algorithm = len(both.y), built("reptile", f"algo.batch={batch}", way=way)
    mask = torch.arange(n + 7) < n
    padded = Examples(torch.cat([both.x, both.x.new_zeros(7, 1, 16, 16)]), F.pad(both.y, (0, 7)), mask)
    for examples in (both, padded):
        met = torch.zeros(n)
        for step in range(n):  # after which each was met as often as a batch is large
            seen = algorithm.seen(examples, step)
            times = torch.bincount(seen.y, minlength=way)
            assert len(seen.y) == batch and times.max() - times.min() <= 1
            met += (seen.x.unsqueeze(1) == both.x).flatten(2).all(2).sum(0)
        assert met.tolist() == [batch] * n


def test_a_regression_has_no_classes_to_take_turns() -> None:
    both = Examples(torch.rand(7, 1), torch.rand(7, 1))
    assert torch.equal(built("reptile", "algo.batch=3").seen(both, 2).y, both.y[[6, 0, 1]])


def test_a_test_learns_from_all_of_a_support() -> None:
    (support, _, _) = trees.index(toy_tasks(), 0)
    algorithm = built("reptile", "algo.batch=3")
    assert len(algorithm.seen(support, 1).y) == 3
    assert algorithm.for_evaluation().seen(support, 1) is support


@dataclass(frozen=True)
class Counting(Adam):
    """Counts its steps by an integer, as torch's optimizers did."""

    def start(self, params: P) -> Any:
        return super().start(params), torch.zeros((), dtype=torch.int64)


def test_what_has_no_mean_is_not_carried() -> None:
    algorithm = built("reptile")
    with pytest.raises(InputError, match="what Counting remembers is not all of real numbers"):
        replace(algorithm, rule=Counting()).init(generator("reptile"))
    kept = replace(algorithm, rule=Counting(), keep=False).init(generator("reptile")).params
    assert not trees.select(kept, "carried")
    assert not trees.select(replace(algorithm, rule=SGD()).init(generator("reptile")).params, "carried")


def test_the_steps_of_an_inner_loop_are_not_held() -> None:
    alive: list[weakref.ref[torch.Tensor]] = []

    class Watched(Reptile):
        def path(self, meta: Meta, support: Examples) -> Iterator[P]:
            for weights in super().path(meta, support):
                alive.append(weakref.ref(weights["head.weight"]))
                yield weights

    algorithm = built("reptile", "algo.test_steps=6").for_evaluation()
    watched = Watched(**{field.name: getattr(algorithm, field.name) for field in fields(algorithm)})
    with torch.no_grad():
        last = watched.adapt(watched.init(generator("reptile")), trees.index(toy_tasks(), 0).support)
    held = [found() for found in alive if found() is not None]
    assert len(alive) == 7 and held[-1] is last["head.weight"] and len(held) <= 2


def test_its_adam_is_torchs() -> None:
    rule, p = Adam(lr=0.1, beta2=0.9), torch.randn(7)
    theirs = p.clone().requires_grad_()
    optimizer = torch.optim.Adam([theirs], lr=0.1, betas=(0.0, 0.9))
    params, state = {"p": p}, rule.start({"p": p})
    for i in range(6):
        gradient = torch.sin(torch.arange(7.0) + i)
        params, state = rule.step({}, state, {"p": gradient}, params)
        theirs.grad = gradient
        optimizer.step()
    torch.testing.assert_close(params["p"], theirs.detach(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["reptile", "imaml"])
@pytest.mark.parametrize("rule", ["learned_lr", "curvature"])
def test_a_rule_that_would_never_learn_is_refused(name: str, rule: str) -> None:
    with pytest.raises(InputError, match="has no part for it"):
        built(name, f"rule@algo.rule={rule}", *["algo.keep=false"] * (name == "reptile")).init(generator("rule"))
