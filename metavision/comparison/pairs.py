"""Groups two by two: how far apart, and how sure; or why they can't be paired."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from metavision.comparison.entries import Entry
from metavision.comparison.groups import Group
from metavision.records.paired import Difference, differences, holm, verdict

SEED = 0  # of sign flips: the same runs give the same p-values


@dataclass(frozen=True)
class Pair:
    """A group less another.

    Args:
        a: index of the first.
        b: index of the second.
        found: the difference; None where they can't be paired.
        p: corrected for all pairs that were looked at (Holm).
        verdict: of the first: `better`, `worse`, `not distinguished` or `not paired`.
        why: they are not paired.
    """

    a: int
    b: int
    found: Difference | None
    p: float
    verdict: str
    why: str = ""


def paired(groups: Sequence[Group], *, higher: bool, least: float = 0.0) -> list[Pair]:
    """All pairs of groups, the earlier one first.

    Args:
        groups: of one metric.
        higher: whether more of it is better.
        least: the smallest difference that is called one.
    """
    both = [(i, j) for i in range(len(groups)) for j in range(i + 1, len(groups))]
    reasons = {(i, j): unlike(groups[i].first, groups[j].first) for i, j in both}
    alike = [(i, j) for i, j in both if not reasons[i, j]]
    values = [(groups[i].values, groups[j].values) for i, j in alike]
    found = dict(zip(alike, differences(values, np.random.default_rng(SEED)), strict=True))
    for at, one in found.items():
        runs = [groups[i].runs for i in at if len(groups[i].entries) > 1]
        if len(runs) == 2:
            resampled = f"{runs[0] if runs[0] == runs[1] else ' and '.join(runs)} and episodes"
            found[at] = replace(one, estimate=replace(one.estimate, resampled=resampled))
    corrected = dict(zip(found, holm([d.p for d in found.values()]), strict=True)) if found else {}
    pairs = []
    for at in both:
        if at not in found:
            pairs.append(Pair(*at, None, float("nan"), "not paired", reasons[at]))
            continue
        said = verdict(found[at], corrected[at], least)
        if not higher and said in ("better", "worse"):
            said = "worse" if said == "better" else "better"
        pairs.append(Pair(*at, found[at], corrected[at], said))
    return pairs


def unlike(a: Entry, b: Entry) -> str:
    """Why results can't be compared in pairs: what is not the same; empty where all is."""
    one, other = a.result, b.result
    parts = [
        ("data", f"{one['data']} {one['split']}", f"{other['data']} {other['split']}"),
        ("images of the split", one["split_hash"], other["split_hash"]),
        *((part, one["episodes"][part], other["episodes"][part]) for part in ("way", "shot", "query", "seed")),
        ("composition", one.get("composition") or "fixed", other.get("composition") or "fixed"),
        ("list of episodes", one["episodes_hash"], other["episodes_hash"]),
        ("number of episodes", one["episodes"]["n"], other["episodes"]["n"]),
    ]
    return next((f"other {what} ({x} and {y})" for what, x, y in parts if x != y), "")
