"""Results that belong together: seeds of one setting, or whatever shares a value."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from metavision.comparison.differences import telling
from metavision.comparison.entries import Entry
from metavision.errors import InputError, suggestion
from metavision.records.classes import over_classes
from metavision.records.statistics import Estimate, estimate, over_seeds

HIGHER = {"accuracy": True, "mse": False, "loss": False, "brier": False}
NAMED = ("run", "algo", "data", "shot", "way", "norm", "code")  # what `by` knows beside keys of the configuration


@dataclass(frozen=True, eq=False)
class Group:
    """Results on the same episodes that are seen as one.

    Args:
        label: what tells it from others.
        entries: by seed.
        metric: of those that are kept by episode.
    """

    label: str
    entries: tuple[Entry, ...]
    metric: str

    @property
    def first(self) -> Entry:
        return self.entries[0]

    @cached_property
    def values(self) -> np.ndarray:
        """(runs, n)."""
        return np.stack([_values(entry, self.metric) for entry in self.entries])

    @cached_property
    def estimate(self) -> Estimate:
        """Over training seeds and episodes where there are two seeds or more, else over episodes."""
        if len(self.entries) == 1:
            return estimate(self.values[0], "episodes")
        if len(self.settings) > 1:  # which are no sample of anything
            return Estimate(float(self.values.mean()), float("nan"), len(self.entries), self.runs)
        return over_seeds(self.values)

    @property
    def runs(self) -> str:
        """What its entries are to each other."""
        return "seeds" if len(self.settings) == 1 else f"runs of {len(self.settings)} settings"

    def said(self, of: Callable[[Mapping[str, Any]], Any]) -> str:
        """Something of its results, or the several things where they differ."""
        return " / ".join(dict.fromkeys(str(of(entry.result)) for entry in self.entries))

    @cached_property
    def over_classes(self) -> Estimate | None:
        """The same mean, over other classes; None where there are none."""
        if "classes" not in self.first.arrays or "over_classes" not in self.first.result:
            return None
        return over_classes(self.values.mean(0), self.first.arrays["classes"])

    @property
    def settings(self) -> list[str]:
        return list(dict.fromkeys(entry.setting for entry in self.entries))

    def summed(self, name: str) -> np.ndarray | None:
        """An array of details summed over runs and episodes; None where one has none."""
        if not all(name in entry.arrays for entry in self.entries):
            return None
        return np.sum([entry.arrays[name].astype(np.float64).sum(0) for entry in self.entries], axis=0)


def grouped(entries: Sequence[Entry], by: Sequence[str], metric: str | None) -> list[Group]:
    """Groups in the order in which they are met; what was scored on other episodes is another group.

    Args:
        entries: to be grouped.
        by: names of `NAMED` or dotted keys of the configuration; none: by run, that is, by all but the seed.
        metric: None: that of the results.

    Raises:
        InputError: a name is not known, or results have different metrics.
    """
    metrics = {entry.metric for entry in entries} if metric is None else {metric}
    if len(metrics) > 1:
        raise InputError(
            f"these results are of different metrics, {' and '.join(sorted(metrics))}; metric= chooses one"
        )
    (chosen,) = metrics
    parts: dict[tuple[Any, ...], dict[str, Entry]] = {}
    for entry in entries:
        key = tuple(_by(entry, name) for name in by or ("run",))
        members = parts.setdefault((key, on(entry)), {})
        same = members.setdefault(entry.name, entry)  # a network that was scored twice, or copied, is one
        if not np.array_equal(same.values, entry.values):
            raise InputError(
                f"{same.folder} and {entry.folder} are both {entry.name}, with other figures; by=code tells runs of "
                "other code apart"
            )
    labels = _labels(by, parts)
    several = len({episodes for _, episodes in parts}) > 1
    twice = len({key for key, _ in parts}) < len(parts)
    groups = []
    for (key, _), members in parts.items():
        about = f" · {described(next(iter(members.values())))}" if several and twice else ""
        ordered = sorted(members.values(), key=lambda e: (e.setting, e.seed))
        groups.append(Group(labels[key] + about, tuple(ordered), chosen))
    return _distinct(groups)


def _distinct(groups: list[Group]) -> list[Group]:
    """With more in the labels that are not of one group alone."""
    more: list[Callable[[Mapping[str, Any]], str]] = [
        lambda result: str(result["split"]),
        lambda result: str(result["normalisation"]),
        lambda result: f"{result['episodes']['n']} episodes",
        lambda result: f"{result['episodes']['query']} queries",
        lambda result: f"episodes of seed {result['episodes']['seed']}",
    ]
    for told in more:
        labels = [group.label for group in groups]
        alike = {label for label in labels if labels.count(label) > 1}
        differ = {label for label in alike if len({told(g.first.result) for g in groups if g.label == label}) > 1}
        groups = [
            replace(group, label=f"{group.label}, {told(group.first.result)}") if group.label in differ else group
            for group in groups
        ]
    return groups


def _labels(by: Sequence[str], parts: Mapping[tuple[Any, ...], Mapping[str, Entry]]) -> dict[Any, str]:
    """What groups are called, by the values that they share: these values, or of runs what tells them apart."""
    if by:
        shown = {key: zip(by, key, strict=True) for key, _ in parts}
        return {
            key: " ".join(str(value) if name in NAMED else f"{name}={value}" for name, value in pairs)
            for key, pairs in shown.items()
        }
    runs: dict[Any, list[Entry]] = {}
    for (key, _), members in parts.items():
        runs.setdefault(key, []).extend(members.values())
    return dict(zip(runs, telling(list(runs.values())), strict=True))


def on(entry: Entry) -> tuple[Any, ...]:
    """What results share that can be averaged: the episodes, and how they were solved."""
    result = entry.result
    e = result["episodes"]
    return (result["split_hash"], result["episodes_hash"], e["n"], result["normalisation"], _under(entry))


def described(entry: Entry) -> str:
    """The episodes, and what else an evaluation had of its own, in short."""
    result, e = entry.result, entry.result["episodes"]
    extra = f" {_under(entry)}" if _under(entry) else ""
    return f"{result['data']} {e['way']}w{e['shot']}s{extra}"


def _under(entry: Entry) -> str:
    """Options of an evaluation that change the algorithm and not the episodes."""
    asked = entry.result.get("asked") or {}
    return " ".join(f"{key}={asked[key]}" for key in ("steps", "checkpoint") if asked.get(key) is not None)


def _by(entry: Entry, name: str) -> Any:
    result = entry.result
    named = {
        "run": entry.setting,
        "algo": entry.setting.split("-")[0],
        "data": result["data"],
        "shot": f"{result['episodes']['shot']}-shot",
        "way": f"{result['episodes']['way']}-way",
        "norm": result["normalisation"],
        "code": str(entry.provenance.get("code", "unknown")),
    }
    if name in named:
        return named[name]
    node: Any = entry.config
    for key in name.split("."):
        if not isinstance(node, Mapping) or key not in node:
            known = [*named, *(str(k) for k in entry.config)] if "." not in name else list(node or [])
            raise InputError(f"{entry.name} has no {name} to compare by{suggestion(key, map(str, known))}")
        node = node[key]
    if isinstance(node, Mapping):
        raise InputError(f"{name} has several values; compare by one of {', '.join(f'{name}.{key}' for key in node)}")
    return node if isinstance(node, int | float | str | None) else str(node)


def _values(entry: Entry, metric: str) -> np.ndarray:
    name = "trained" if metric == entry.metric else metric
    arrays = entry.arrays
    known = [entry.metric, *(key for key in HIGHER if key in arrays)]
    if metric not in known or name not in arrays or len(arrays[name]) != entry.result["episodes"]["n"]:
        raise InputError(f"{entry.folder} has no {metric or 'such figure'} by episode{suggestion(metric, known)}")
    return arrays[name].astype(np.float64)
