"""Inner gradients, and steps whose graph is not kept."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, func
from torch.autograd.function import Function, once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import get_device_states, set_device_states

from metavision import trees
from metavision.nn.mapped import apart, below, mapped, together, transformed
from metavision.nn.modes import modes, under
from metavision.types import P

_HOLE = object()


def gradient(function: Callable[..., Tensor], at: P, *rest: Any, constant: bool = False) -> P:
    """The gradient of `function(at, *rest)`, a scalar, by `at`; zero where that has no part in it.

    It is plain autograd's, outside of torch.func's transforms and, for all tasks together, under vmap: that takes less
    time, and blocks can take their derivatives by formulas of their own.

    Args:
        function: of a tree, and of anything.
        at: where the gradient is taken.
        rest: further arguments; all that is to be differentiated through is in them or in `at`.
        constant: whether nobody will differentiate what is returned.
    """
    if constant:
        at = {name: tensor.detach() for name, tensor in at.items()}
    if transformed() and not mapped():
        with _attention(twice=not constant):
            return func.grad(function)(at, *rest)
    tensors = [together(tensor) for tensor in trees.tensors((at, rest))]
    differentiable = torch.is_grad_enabled() and not constant and any(tensor.requires_grad for tensor in tensors)
    leaves = {name: together(p) for name, p in at.items()}
    with torch.enable_grad(), _attention(twice=differentiable):
        with below():
            # Views, so that a head that was made from the backbone counts as a variable of its own.
            leaves = {
                name: p.view_as(p) if differentiable and p.requires_grad else p.detach().requires_grad_()
                for name, p in leaves.items()
            }
        value = together(function({name: apart(p) for name, p in leaves.items()}, *rest))
        if not value.requires_grad:  # no weight has a part in it
            return {name: torch.zeros_like(p) for name, p in at.items()}
        if mapped():
            value = value.sum()  # of all tasks: one's weights have no part in another's value
        with below():
            slopes = torch.autograd.grad(
                value,
                list(leaves.values()),
                create_graph=differentiable,
                allow_unused=True,
                materialize_grads=True,
            )
    return {name: apart(slope) for name, slope in zip(leaves, slopes, strict=True)}


def _attention(*, twice: bool) -> AbstractContextManager[Any]:
    """Where a derivative is taken twice, torch's attention must be written out: fused kernels have no second one."""
    return sdpa_kernel(SDPBackend.MATH) if twice else nullcontext()


def step(function: Callable[..., Any], *given: Any) -> Any:
    """`function(*given)`; where the engine asks for it, done again in the backward pass in the place of its graph.

    Reference:
        Training Deep Nets with Sublinear Memory Cost (Chen et al., 2016), https://arxiv.org/abs/1604.06174. Unlike
        torch's own checkpoints, what is done again may take gradients itself, as an inner step does.

    Args:
        function: of trees of tensors and None, to such a tree; all that is differentiated is among its arguments.
        given: the arguments.
    """
    tensors = trees.tensors(given)
    if not (modes().recompute and tensors and torch.is_grad_enabled()) or transformed():
        return function(*given)
    leaves, structure = pytree.tree_flatten(given)
    kept: list[Any] = []  # of what is returned: the leaves, a hole for each tensor, and their structure

    def flat(*tensors: Tensor) -> tuple[Tensor, ...]:
        out, shape = pytree.tree_flatten(function(*pytree.tree_unflatten(_filled(leaves, tensors), structure)))
        kept[:] = [_HOLE if isinstance(leaf, Tensor) else leaf for leaf in out], shape
        return tuple(leaf for leaf in out if isinstance(leaf, Tensor))

    made = _Again.apply(flat, *tensors)
    rest, shape = kept
    return pytree.tree_unflatten(_filled(rest, made), shape)


class _Again(Function):
    """Forward without a graph; backward with one, of the same random draws."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., tuple[Tensor, ...]], *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.function, ctx.modes, ctx.autocast = function, modes(), _autocast(tensors[0].device.type)
        ctx.draws = torch.get_rng_state(), *get_device_states(*tensors)
        ctx.save_for_backward(*tensors)
        return function(*tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        draws, devices, states = ctx.draws
        tensors = [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in ctx.saved_tensors]
        with torch.random.fork_rng(devices), torch.enable_grad(), under(ctx.modes), torch.autocast(**ctx.autocast):
            torch.set_rng_state(draws)
            set_device_states(devices, states)
            out = ctx.function(*tensors)
        ends = [(end, cotangent) for end, cotangent in zip(out, cotangents, strict=True) if end.requires_grad]
        moved = [tensor for tensor in tensors if tensor.requires_grad]
        last, given = ([pair[side] for pair in ends] for side in (0, 1))
        slopes = iter(torch.autograd.grad(last, moved, given, allow_unused=True))
        return None, *(next(slopes) if tensor.requires_grad else None for tensor in tensors)


def _autocast(device: str) -> dict[str, Any]:
    """That of the scope."""
    enabled = torch.is_autocast_enabled(device)
    return {"device_type": device, "enabled": enabled, "dtype": torch.get_autocast_dtype(device)}


def _filled(leaves: list[Any], tensors: tuple[Tensor, ...]) -> list[Any]:
    """The leaves, with these tensors in the place of theirs, or in that of holes."""
    rest = iter(tensors)
    return [next(rest) if leaf is _HOLE or isinstance(leaf, Tensor) else leaf for leaf in leaves]
