"""Reptile against the update written out by hand, and its inner Adam against torch's."""

import pytest
import torch
import torch.nn.functional as F

from metavision import trees
from metavision.engine.mapping import Mapper
from metavision.rules.adam import Adam
from metavision.seeds import generator
from metavision.types import Meta
from tests.algorithms.builds import built
from tests.algorithms.test_maml import Net
from tests.conftest import toy_tasks

pytestmark = pytest.mark.usefixtures("float64")


BEFORE = 3  # steps of other tasks that averages may come from


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("every", [1, 2, 5])
def test_the_direction_is_the_way_from_the_mean_of_what_tasks_end_with(every: int, keep: bool) -> None:
    """With small batches each class is in every one, and some steps see each example once."""
    tasks = toy_tasks(tasks=3, shot=5, query=5)
    words = [] if every == 1 else [f"algo.batch={30 // every}"]
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
        for step in range(4):
            x, y = (torch.cat(pair)[step % every :: every] for pair in ((support.x, query.x), (support.y, query.y)))
            assert every == 2 or len(set(torch.bincount(y).tolist())) == 1
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


def test_a_test_learns_from_all_of_a_support() -> None:
    (support, _, _) = trees.index(toy_tasks(), 0)
    algorithm = built("reptile", "algo.batch=3")
    assert len(algorithm.seen(support, 1).y) == 3
    assert algorithm.for_evaluation().seen(support, 1) is support


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
