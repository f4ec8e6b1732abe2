"""Reptile against the update written out by hand, and its inner Adam against torch's."""

import pytest
import torch
import torch.nn.functional as F

from metavision import trees
from metavision.engine.mapping import Mapper
from metavision.rules.adam import Adam
from metavision.seeds import generator
from tests.algorithms.builds import built
from tests.algorithms.test_maml import Net
from tests.conftest import toy_tasks

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("every", [1, 2, 5])
def test_the_direction_is_the_way_from_the_mean_of_the_adapted_weights(every: int) -> None:
    """With small batches each class is in every one, and some steps see each example once."""
    tasks = toy_tasks(tasks=3, shot=5, query=5)
    words = [] if every == 1 else [f"algo.batch={30 // every}"]
    algorithm = built("reptile", "algo.steps=4", "algo.rule.lr=0.02", *words)
    meta = algorithm.init(generator("reptile"))
    ours, logs = algorithm.meta_grad(meta, tasks, Mapper("loop"))
    adapted, losses = [], []
    for t in range(3):
        support, query, _ = trees.index(tasks, t)
        net = Net(algorithm, meta.params)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.02, betas=(0.0, 0.999))
        for step in range(4):
            x, y = (torch.cat(pair)[step % every :: every] for pair in ((support.x, query.x), (support.y, query.y)))
            assert every == 2 or len(set(torch.bincount(y).tolist())) == 1
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
        out = net(torch.cat([support.x, query.x]))
        losses.append(F.cross_entropy(out, torch.cat([support.y, query.y])).detach())
        adapted.append({name: p.detach().clone() for name, p in net.named_parameters()})
    for name, p in meta.params.items():
        expected = p - torch.stack([one[name] for one in adapted]).mean(0)
        torch.testing.assert_close(ours[name], expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logs["loss"], torch.stack(losses).mean(), rtol=1e-5, atol=1e-6)


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
