"""torch's optimizers without its compiler, which their methods import when first called: a second of every start."""

import inspect

import torch
from torch.optim import Optimizer

_MARK = "__dynamo_disable"  # where torch looks for the method that its compiler leaves alone, before it asks for one


def spare_the_compiler() -> None:
    """Optimizers that are made from now on import no compiler; if one is there it is of no use to them anyway."""
    plain = inspect.unwrap(Optimizer.add_param_group)
    if not hasattr(plain, _MARK):
        setattr(plain, _MARK, plain)


def descend(optimizer: Optimizer) -> None:
    """`optimizer.step()`; of torch's own optimizers, without the hooks, profiling and compiler wrapped around it."""
    kind = type(optimizer)
    if not kind.__module__.startswith("torch.optim.") or optimizer.defaults.get("differentiable"):
        optimizer.step()
        return
    with torch.no_grad():
        inspect.unwrap(kind.step)(optimizer)
