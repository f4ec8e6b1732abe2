"""MAML against learn2learn and against the update written out by hand."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metavision import trees
from metavision.adapters import learn2learn as peer
from metavision.engine.mapping import Mapper
from metavision.errors import InputError
from metavision.nn.functional import apply
from metavision.seeds import generator
from metavision.types import Episode, Inputs
from tests.algorithms.builds import built
from tests.conftest import toy_tasks

pytestmark = pytest.mark.usefixtures("float64")


def learn2learn() -> Any:
    """The peer, or a skipped test."""
    try:
        return peer.learn2learn()
    except InputError as error:
        pytest.skip(str(error))


class Net(nn.Module):
    """The backbone and head of an algorithm as one module, for a peer that wants one."""

    def __init__(self, algorithm: Any, params: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.backbone = algorithm.backbone
        self.head = nn.Linear(algorithm.backbone.features, 3)
        self.load_state_dict(params)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(x))


def outer_loss(peer: Any, tasks: Episode, steps: int) -> torch.Tensor:
    """The mean query loss of a peer's learners after some steps on the support."""
    losses = []
    for t in range(len(tasks.support.y)):
        support, query, _ = trees.index(tasks, t)
        learner = peer.clone()
        for _ in range(steps):
            learner.adapt(F.cross_entropy(learner(support.x), support.y))
        losses.append(F.cross_entropy(learner(query.x), query.y))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("steps", [1, 3])
def test_the_meta_gradient_is_learn2learns(steps: int, first_order: bool) -> None:
    l2l = learn2learn()
    algorithm = built("maml", f"algo.steps={steps}", f"algo.first_order={first_order}", "algo.rule.lr=0.3")
    tasks = toy_tasks(tasks=2)
    meta = algorithm.init(generator("l2l"))
    ours, logs = algorithm.meta_grad(meta, tasks, Mapper("loop"))

    theirs = l2l.algorithms.MAML(Net(algorithm, meta.params), lr=0.3, first_order=first_order)
    total = outer_loss(theirs, tasks, steps)
    total.backward()

    torch.testing.assert_close(logs["loss"], total.detach(), rtol=0, atol=1e-8)
    for name, parameter in theirs.module.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=0, atol=1e-8)


def test_first_order_is_the_query_gradient_at_the_adapted_weights() -> None:
    algorithm, tasks = built("fomaml", "algo.steps=2", "algo.rule.lr=0.3"), toy_tasks(tasks=1)
    meta = algorithm.init(generator("fo"))
    ours, _ = algorithm.meta_grad(meta, tasks, Mapper("loop"))
    support, query, _ = trees.index(tasks, 0)

    def loss(params: dict[str, torch.Tensor], examples: Any) -> torch.Tensor:
        z = apply(algorithm.backbone, trees.select(params, "backbone"), {}, Inputs(examples.x))
        return F.cross_entropy(F.linear(z, params["head.weight"], params["head.bias"]), examples.y)

    weights = {name: p.clone().requires_grad_() for name, p in meta.params.items()}
    for _ in range(2):
        grads = torch.autograd.grad(loss(weights, support), list(weights.values()))
        weights = {
            name: (p - 0.3 * g).detach().requires_grad_() for (name, p), g in zip(weights.items(), grads, strict=True)
        }
    expected = torch.autograd.grad(loss(weights, query), list(weights.values()))
    for (name, gradient), want in zip(ours.items(), expected, strict=True):
        torch.testing.assert_close(gradient, want, rtol=0, atol=1e-10, msg=name)


def test_first_order_differs_from_second_order() -> None:
    tasks = toy_tasks()
    first, second = (built(name, "algo.steps=2", "algo.rule.lr=0.3") for name in ("fomaml", "maml"))
    meta = first.init(generator("fo"))
    a, b = (algorithm.meta_grad(meta, tasks, Mapper("loop"))[0] for algorithm in (first, second))
    difference = trees.norm(trees.add(a, trees.scale(b, -1)))
    assert difference > 0.01 * trees.norm(b)


def test_test_steps_hold_in_evaluation_alone() -> None:
    algorithm = built("maml", "algo.steps=1", "algo.test_steps=7")
    assert (algorithm.steps, algorithm.for_evaluation().steps, algorithm.before_adaptation().steps) == (1, 7, 0)


def test_the_rate_of_evaluation_is_a_setting_of_its_own() -> None:
    algorithm = built("maml", "algo.test_lr=0.5", "algo.rule.lr=0.1")
    assert (algorithm.rule.lr, algorithm.for_evaluation().rule.lr) == (0.1, 0.5)
    assert built("maml", "algo.rule.lr=0.1").for_evaluation().rule.lr == 0.1
    with pytest.raises(InputError, match="its rates are learned"):
        built("metasgd", "algo.test_lr=0.5")
    with pytest.raises(InputError, match="must be above 0"):
        built("maml", "algo.test_lr=-1")


def test_metasgds_gradient_is_learn2learns() -> None:
    """By weights and by rates, which are spread about, so that none stands for another."""
    l2l = learn2learn()
    algorithm, tasks = built("metasgd", "algo.steps=2", "algo.rule.lr=0.2"), toy_tasks(tasks=2)
    meta = algorithm.init(generator("l2l"))
    g = generator("rates")
    rates = {
        name: 0.1 + 0.2 * torch.rand(p.shape, generator=g) for name, p in trees.select(meta.params, "rule").items()
    }
    params = {**meta.params, **trees.under("rule", rates)}
    ours, _ = algorithm.meta_grad(meta._replace(params=params), tasks, Mapper("loop"))

    weights = {name: p for name, p in meta.params.items() if not name.startswith("rule.")}
    theirs = l2l.algorithms.MetaSGD(Net(algorithm, weights), lr=0.2)
    order = [name for name, _ in theirs.module.named_parameters()]
    for rate, name in zip(theirs.lrs, order, strict=True):
        rate.data.copy_(rates[name])
    outer_loss(theirs, tasks, 2).backward()
    for name, parameter in theirs.module.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=0, atol=1e-8)
    for rate, name in zip(theirs.lrs, order, strict=True):
        torch.testing.assert_close(ours[f"rule.{name}"], rate.grad, rtol=0, atol=1e-8)


def test_anils_gradient_is_learn2learns_maml_on_the_head() -> None:
    l2l = learn2learn()
    algorithm, tasks = built("anil", "algo.steps=3"), toy_tasks(tasks=2)
    meta = algorithm.init(generator("l2l"))
    ours, _ = algorithm.meta_grad(meta, tasks, Mapper("loop"))
    net = Net(algorithm, meta.params)
    head = l2l.algorithms.MAML(net.head, lr=0.1)
    total = torch.zeros(())
    for t in range(2):
        support, query, _ = trees.index(tasks, t)
        learner, z = head.clone(), net.backbone(support.x)
        for _ in range(3):
            learner.adapt(F.cross_entropy(learner(z), support.y))
        total = total + F.cross_entropy(learner(net.backbone(query.x)), query.y) / 2
    total.backward()
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=0, atol=1e-8)


@pytest.mark.parametrize(("name", "moved"), [("anil", "head."), ("boil", "backbone."), ("maml", ""), ("metasgd", "")])
def test_the_inner_loop_moves_what_it_should(name: str, moved: str) -> None:
    algorithm = built(name, "norm=none")  # before a norm a bias has no gradient
    meta, support = algorithm.init(generator("moves")), trees.index(toy_tasks(tasks=1), 0).support
    fast = algorithm.adapt(meta, support)
    for key, weights in fast.items():
        assert torch.equal(weights, meta.params[key]) != key.startswith(moved)
