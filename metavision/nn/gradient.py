"""Inner gradients, and steps whose graph is not kept."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, func
from torch.autograd.function import Function, once_differentiable
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import get_device_states, set_device_states

from metavision.nn.modes import modes, under
from metavision.types import P


def transformed() -> bool:
    """Whether this runs under a transform of torch.func, such as vmap."""
    return torch._C._functorch.maybe_current_level() is not None  # noqa: SLF001 - there is no public way to ask


def gradient(function: Callable[..., Tensor], at: P, *rest: Any, constant: bool = False) -> P:
    """The gradient of `function(at, *rest)`, a scalar, by `at`; zero where that has no part in it.

    Outside of torch.func's transforms it is plain autograd's, which has a third of the overhead.

    Args:
        function: of a tree, and of anything.
        at: where the gradient is taken.
        rest: further arguments.
        constant: whether nobody will differentiate what is returned.
    """
    if constant:
        at = {name: tensor.detach() for name, tensor in at.items()}
    if transformed():
        return func.grad(function)(at, *rest)
    differentiable = torch.is_grad_enabled() and not constant
    with torch.enable_grad():
        at = {name: p if differentiable and p.requires_grad else p.detach().requires_grad_() for name, p in at.items()}
        value = function(at, *rest)
        slopes = torch.autograd.grad(
            value, list(at.values()), create_graph=differentiable, allow_unused=True, materialize_grads=True
        )
    return dict(zip(at, slopes, strict=True))


def step(function: Callable[..., Any], *trees: Any) -> Any:
    """`function(*trees)`; where the engine asks for it, done again in the backward pass in the place of its graph.

    Reference:
        Training Deep Nets with Sublinear Memory Cost (Chen et al., 2016), https://arxiv.org/abs/1604.06174. Unlike
        torch's own checkpoints, what is done again may take gradients itself, as an inner step does.

    Args:
        function: of trees of tensors and None, to such a tree; all that is differentiated is among its arguments.
        trees: the arguments.
    """
    if not modes().recompute or transformed() or not torch.is_grad_enabled():
        return function(*trees)
    leaves, structure = pytree.tree_flatten(trees)
    shape: Any = None  # of what is returned

    def flat(*leaves: Any) -> tuple[Any, ...]:
        nonlocal shape
        out, shape = pytree.tree_flatten(function(*pytree.tree_unflatten(leaves, structure)))
        return tuple(out)

    return pytree.tree_unflatten(_Again.apply(flat, *leaves), shape)


class _Again(Function):
    """Forward without a graph; backward with one, of the same random draws."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., tuple[Any, ...]], *leaves: Any) -> tuple[Any, ...]:
        ctx.function, ctx.modes = function, modes()
        ctx.draws = torch.get_rng_state(), *get_device_states(*leaves)
        ctx.save_for_backward(*leaves)
        return function(*leaves)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Any, ...]:
        draws, devices, states = ctx.draws
        leaves = [leaf if leaf is None else _again(leaf) for leaf in ctx.saved_tensors]
        moved = [leaf for leaf in leaves if leaf is not None and leaf.requires_grad]
        with torch.random.fork_rng(devices), torch.enable_grad(), under(ctx.modes):
            torch.set_rng_state(draws)
            set_device_states(devices, states)
            out = ctx.function(*leaves)
        ends, given = zip(*((o, c) for o, c in zip(out, cotangents, strict=True) if o is not None), strict=True)
        slopes = iter(torch.autograd.grad(ends, moved, given, allow_unused=True))
        return None, *(next(slopes) if leaf is not None and leaf.requires_grad else None for leaf in leaves)


def _again(leaf: Tensor) -> Tensor:
    return leaf.detach().requires_grad_(leaf.requires_grad)
