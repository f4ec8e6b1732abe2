"""Gradients of all tasks together, against those that torch.func takes of each under vmap."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, func

from metavision.nn.gradient import gradient
from metavision.nn.mapped import apart, below, mapped, together, transformed
from metavision.types import P

pytestmark = pytest.mark.usefixtures("float64")


def loss(at: P, x: Tensor) -> Tensor:
    return (torch.tanh(x @ at["w"]) + at["b"]).square().mean()


def two_steps(take: Callable[..., P], params: P, x: Tensor) -> Tensor:
    """The loss after two steps of gradient descent, whose first is from weights that all tasks share."""
    for _ in range(2):
        grads = take(loss, params, x)
        params = {name: params[name] - 0.3 * grads[name] for name in params}
    return loss(params, x)


@pytest.fixture
def params() -> P:
    draw = torch.Generator().manual_seed(0)
    return {"w": torch.randn(4, 3, generator=draw), "b": torch.randn(3, generator=draw)}


@pytest.fixture
def tasks() -> Tensor:
    return torch.randn(5, 6, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("constant", [False, True])
def test_a_gradient_under_vmap_is_that_of_each_task(params: P, tasks: Tensor, constant: bool) -> None:
    found = torch.vmap(lambda x: gradient(loss, params, x, constant=constant))(tasks)
    expected = torch.vmap(lambda x: func.grad(loss)(params, x))(tasks)
    torch.testing.assert_close(found, expected)
    assert not any(g.requires_grad for g in found.values())


def test_a_gradient_under_vmap_can_be_differentiated(params: P, tasks: Tensor) -> None:
    def slope(take: Callable[..., P]) -> P:
        leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
        total = torch.vmap(lambda x: two_steps(take, leaves, x))(tasks).sum()
        return dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))

    expected = slope(lambda *given: func.grad(given[0])(*given[1:]))
    torch.testing.assert_close(slope(gradient), expected, rtol=1e-12, atol=1e-14)


def test_within_other_transforms_it_is_torch_funcs(params: P, tasks: Tensor) -> None:
    """A vmap in a vmap, and a gradient of a gradient."""
    pairs = tasks[:4].unflatten(0, (2, 2))
    found = torch.vmap(torch.vmap(lambda x: gradient(loss, params, x)))(pairs)
    expected = torch.vmap(torch.vmap(lambda x: func.grad(loss)(params, x)))(pairs)
    torch.testing.assert_close(found, expected)
    curved = func.grad(lambda p: two_steps(gradient, p, tasks[0]))(params)
    exact = func.grad(lambda p: two_steps(lambda *given: func.grad(given[0])(*given[1:]), p, tasks[0]))(params)
    torch.testing.assert_close(curved, exact)


def test_tasks_are_together_along_any_dimension_and_apart_again(tasks: Tensor) -> None:
    shared = torch.arange(3.0)

    def look(x: Tensor) -> Tensor:
        assert mapped() and transformed()
        assert torch.equal(together(x, 1), tasks.movedim(0, 1))
        assert together(shared, 1).shape == (3, 5) and torch.equal(together(shared)[4], shared)
        with below():
            assert not mapped() and not transformed()
            turned = together(x)  # outside of vmap, whatever is given
        assert turned is x
        return apart(together(x, 2), 2)

    assert torch.equal(torch.vmap(look)(tasks), tasks)
    assert not mapped() and together(shared) is shared and apart(shared) is shared
