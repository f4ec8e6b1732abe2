"""Groups two by two: how far apart, and how sure; or why they can't be paired."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from metavision.comparison.entries import Entry
from metavision.comparison.groups import Group
from metavision.records.paired import Difference, differences, holm, verdict

OPPOSITE = {"better": "worse", "worse": "better"}
SEED = 0  # of sign flips: the same runs give the same p-values


@dataclass(frozen=True)
class Pair:
    """A group less another.

    Args:
        a: index of the first.
        b: index of the second.
        found: the difference; None where they can't be paired.
        p: corrected for all pairs that were looked at (Holm).
        verdict: of the first: `better`, `worse`, `not distinguished`, `not paired`, or `not tested`, where several
            settings are pooled, which are no random sample of anything.
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
    found = {at: _named(one, groups[at[0]], groups[at[1]]) for at, one in found.items()}
    tested = {at: one for at, one in found.items() if all(len(groups[i].settings) == 1 for i in at)}
    corrected = dict(zip(tested, holm([d.p for d in tested.values()]), strict=True)) if tested else {}
    pairs = []
    for at in both:
        if at not in found:
            pairs.append(Pair(*at, None, float("nan"), "not paired", reasons[at]))
            continue
        if at not in corrected:
            pairs.append(Pair(*at, found[at], float("nan"), "not tested"))
            continue
        said = verdict(found[at], corrected[at], least)
        if not higher:
            said = OPPOSITE.get(said, said)
        pairs.append(Pair(*at, found[at], corrected[at], said))
    return pairs


def _named(one: Difference, a: Group, b: Group) -> Difference:
    """A difference that says what its runs are to each other."""
    if min(len(a.entries), len(b.entries)) == 1:
        return one
    runs = a.runs if a.runs == b.runs else f"{a.runs} and {b.runs}"
    width = one.estimate.half_width if len(a.settings) == len(b.settings) == 1 else float("nan")
    return replace(one, estimate=replace(one.estimate, resampled=f"{runs} and episodes", half_width=width))


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
