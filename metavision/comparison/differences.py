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
    if len(groups) == 1:
        return plain
    alike: dict[str, list[int]] = {}
    for i, name in enumerate(plain):
        alike.setdefault(name.rpartition("-")[0], []).append(i)  # <algo>-<data>
    names = list(plain)
    for whose, places in alike.items():
        if len(places) == 1:
            names[places[0]] = whose
            continue
        said = _settings([groups[i] for i in places])
        if said and len(set(said)) == len(said):
            for i, words in zip(places, said, strict=True):
                names[i] = f"{whose} {words}"
    return names


def _settings(groups: Sequence[Sequence[Entry]]) -> list[str]:
    """What differs among groups, for each; nothing where that is too much for a name."""
    table = {key: values for key, values in differing(groups).items() if not key.startswith("evaluate.")}
    if not 0 < len(table) <= MOST_TOLD:
        return []
    names = {key: next(end for end in _ends(key) if sum(end in _ends(other) for other in table) == 1) for key in table}
    columns = {names[key]: _shortened(values) for key, values in table.items()}
    return [" ".join(f"{name}={values[i]}" for name, values in columns.items()) for i in range(len(groups))]


def _shortened(values: Sequence[str]) -> list[str]:
    """Numbers to four digits, where they stay apart."""
    try:
        short = [f"{float(value):.4g}" for value in values]
    except ValueError:
        return list(values)
    return short if len(set(short)) == len(set(values)) else list(values)


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
