"""Algebra on parameter trees, and indexing of trees of tensors that have a leading axis."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from metavision.types import P


def map_with(function: Callable[..., Tensor], first: P, *others: P) -> P:
    """`function` of the tensors that share a name."""
    return {name: function(tensor, *(other[name] for other in others)) for name, tensor in first.items()}


def add(a: P, b: P) -> P:
    return map_with(torch.add, a, b)


def scale(a: P, factor: float | Tensor) -> P:
    return {name: tensor * factor for name, tensor in a.items()}


def detach(a: P) -> P:
    return {name: tensor.detach() for name, tensor in a.items()}


def dot(a: P, b: P) -> Tensor:
    """Sum of the products of all numbers of two trees, as a scalar."""
    return torch.stack([(tensor * b[name]).sum() for name, tensor in a.items()]).sum()


def norm(a: P) -> Tensor:
    """Euclidean norm of all numbers of a tree, as a scalar."""
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(tensor) for tensor in a.values()]))


def select(a: P, prefix: str) -> P:
    """The sub-tree under `prefix.`, with the prefix taken off."""
    return {name.removeprefix(f"{prefix}."): t for name, t in a.items() if name.startswith(f"{prefix}.")}


def without(a: P, prefix: str) -> P:
    """All but the sub-tree under `prefix.`."""
    return {name: tensor for name, tensor in a.items() if not name.startswith(f"{prefix}.")}


def under(prefix: str, a: P) -> P:
    """The inverse of `select`."""
    return {f"{prefix}.{name}": tensor for name, tensor in a.items()}


def named(tree: Any) -> P:
    """The tensors of a pytree that hold real numbers, by where they are in it."""
    return {_name(path): leaf for path, leaf in pytree.tree_leaves_with_path(tree) if _real(leaf)}


def renewed(tree: Any, by_name: P) -> Any:
    """A pytree with other tensors at the places that `named` names."""
    return pytree.tree_map_with_path(lambda path, leaf: by_name[_name(path)] if _real(leaf) else leaf, tree)


def real(tree: Any) -> bool:
    """Whether all leaves of a pytree are tensors of real numbers."""
    return all(map(_real, pytree.tree_leaves(tree)))


def _real(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def _name(path: pytree.KeyPath) -> str:
    return ".".join(str(getattr(key, "name", getattr(key, "key", getattr(key, "idx", None)))) for key in path)


def tensors(tree: Any) -> list[Tensor]:
    """The leaves of a pytree that are tensors."""
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def to(tree: Any, device: torch.device) -> Any:
    """A pytree with its tensors on a device."""
    return pytree.tree_map(lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, tree)


def index(tree: Any, at: int | slice) -> Any:
    """`leaf[at]` for every tensor of a pytree: one task, or some tasks, of a batch."""
    return pytree.tree_map(lambda leaf: leaf[at] if isinstance(leaf, Tensor) else leaf, tree)


def stack(trees: Iterable[Any]) -> Any:
    """Pytrees of one structure as one, with a leading axis on every tensor."""
    first, *others = trees
    return pytree.tree_map(
        lambda *leaves: torch.stack(leaves) if isinstance(leaves[0], Tensor) else leaves[0], first, *others
    )


def concatenate(trees: Iterable[Any]) -> Any:
    """Pytrees of one structure, joined along the leading axis of every tensor."""
    first, *others = trees
    return pytree.tree_map(
        lambda *leaves: torch.cat(leaves) if isinstance(leaves[0], Tensor) else leaves[0], first, *others
    )


def cuda(tree: Any) -> list[torch.device]:
    """The CUDA devices that tensors of a pytree are on: those whose random state a fork has to keep."""
    return list({leaf.device for leaf in tensors(tree) if leaf.is_cuda})
