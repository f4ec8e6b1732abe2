"""Where configurations differ, and names made of it."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from metavision.comparison.entries import Entry

# Keys of a configuration that say where and how a run was made, and nothing of what it is.
BESIDE = ("outputs", "rerun", "wait", "logger", "lengths", "device", "references", "seed")
MOST_TOLD = 4  # settings in a name


def differing(groups: Sequence[Sequence[Entry]]) -> dict[str, list[str]]:
    """Keys of the configurations in which groups differ, with a value (or several) for each group."""
    flat = [[_flat(entry.config) for entry in group] for group in groups]
    keys = dict.fromkeys(key for group in flat for one in group for key in one)
    table = {key: [" / ".join(dict.fromkeys(one.get(key, "—") for one in group)) for group in flat] for key in keys}
    return {key: values for key, values in table.items() if any(a != b for a, b in pairwise(values))}


def telling(groups: Sequence[Sequence[Entry]]) -> list[str]:
    """A name for each group of seeds by what tells it from the others, where that is little; else the run's own."""
    plain = [group[0].setting for group in groups]
    whose = [name.rpartition("-")[0] for name in plain]  # <algo>-<data>
    if len(set(whose)) == len(groups):
        return whose if len(groups) > 1 else plain
    table = {key: values for key, values in differing(groups).items() if not key.startswith("evaluate.")}
    if len(set(whose)) > 1 or not 0 < len(table) <= MOST_TOLD:
        return plain
    names = {key: next(end for end in _ends(key) if sum(end in _ends(other) for other in table) == 1) for key in table}
    said = [" ".join(f"{names[key]}={values[i]}" for key, values in table.items()) for i in range(len(groups))]
    return [f"{who} {words}" for who, words in zip(whose, said, strict=True)] if len(set(said)) == len(said) else plain


def _ends(key: str) -> list[str]:
    """`c`, `b.c`, `a.b.c` of a.b.c."""
    parts = key.split(".")
    return [".".join(parts[i:]) for i in reversed(range(len(parts)))]


def _flat(node: Any, prefix: str = "") -> dict[str, str]:
    """Leaves of a configuration by dotted key."""
    if not isinstance(node, Mapping):
        return {prefix: _plain(node)}
    leaves: dict[str, str] = {}
    for key, value in node.items():
        if prefix or key not in BESIDE:
            leaves |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return leaves


def _plain(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return value.removeprefix("metavision.")
    return ", ".join(map(str, value)) if isinstance(value, Sequence) else str(value)
