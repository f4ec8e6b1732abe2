"""A pytree of tensors as JSON and named tensors, so that no pickle is needed to keep one."""

from typing import Any

from torch import Tensor

from metavision.classify import trusting
from metavision.errors import InputError


def packed(tree: Any, name: str) -> tuple[Any, dict[str, Tensor]]:
    """The tree's structure as JSON, and its tensors, named by their paths from `name` on."""
    if isinstance(tree, Tensor):
        return {"tensor": name}, {name: tree}
    if tree is None or isinstance(tree, bool | int | float | str):
        return {"value": tree}, {}
    if isinstance(tree, dict):
        items, kind = {str(key): value for key, value in tree.items()}, "dict"
    elif isinstance(tree, tuple) and hasattr(tree, "_asdict"):
        items, kind = tree._asdict(), f"{type(tree).__module__}.{type(tree).__qualname__}"
    elif isinstance(tree, list | tuple):
        items, kind = {str(i): value for i, value in enumerate(tree)}, type(tree).__name__
    else:
        raise InputError(f"what was learned holds a {type(tree).__name__}, which can't be kept in a file")
    parts = {key: packed(value, f"{name}/{key}") for key, value in items.items()}
    tensors = {path: tensor for _, found in parts.values() for path, tensor in found.items()}
    return {"kind": kind, "items": {key: structure for key, (structure, _) in parts.items()}}, tensors


def unpacked(structure: Any, tensors: dict[str, Tensor]) -> Any:
    """The tree that `packed` was given. A named tuple's class is the only name that is looked up, and must be one."""
    if "tensor" in structure:
        return tensors[structure["tensor"]]
    if "value" in structure:
        return structure["value"]
    items = {key: unpacked(inner, tensors) for key, inner in structure["items"].items()}
    kind = structure["kind"]
    if kind in ("list", "tuple", "dict"):
        return items if kind == "dict" else {"list": list, "tuple": tuple}[kind](items.values())
    named = trusting.found(kind)
    if not (isinstance(named, type) and issubclass(named, tuple) and hasattr(named, "_fields")):
        raise InputError(f"{kind} is no named tuple, so this is no classifier of this program")
    return named(**items)
