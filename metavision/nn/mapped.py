"""Tensors of all the tasks that `vmap` maps over at once, for what is done better to all of them together.

These are functions of torch that have no public name; all use of them is here.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor
from torch._C import _functorch
from torch._functorch import pyfunctorch


def transformed() -> bool:
    """Whether this runs under a transform of torch.func, such as vmap."""
    return _functorch.maybe_current_level() is not None


def mapped() -> bool:
    """Whether this runs under one vmap and no other transform."""
    stack = _functorch.get_interpreter_stack()
    return stack is not None and len(stack) == 1 and stack[0].key() == _functorch.TransformType.Vmap


def together(tensor: Tensor, dim: int = 0) -> Tensor:
    """The tensors of all tasks in one, along a dimension of their own; without vmap, the tensor itself."""
    if not mapped():
        return tensor
    (interpreter,) = pyfunctorch.retrieve_all_functorch_interpreters()
    assert isinstance(interpreter, pyfunctorch.VmapInterpreter)
    value, at = _functorch._unwrap_batched(tensor, interpreter.level())  # noqa: SLF001
    if at is None:
        return value.unsqueeze(dim).expand(*value.shape[:dim], interpreter.batch_size(), *value.shape[dim:])
    return value.movedim(at, dim)


def apart(tensor: Tensor, dim: int = 0) -> Tensor:
    """That of one task, as the mapped function sees it, from one of all tasks; without vmap, the tensor itself."""
    level = _functorch.maybe_current_level()
    return tensor if level is None else _functorch._add_batch_dim(tensor, dim, level)  # noqa: SLF001


def below() -> AbstractContextManager[Any]:
    """A scope outside of vmap, for what is together."""
    return pyfunctorch.temporarily_pop_interpreter_stack() if mapped() else nullcontext()
