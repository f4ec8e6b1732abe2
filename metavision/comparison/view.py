"""What is compared, ready to be shown: in a terminal, as Markdown or CSV, or as a page."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from metavision.comparison.differences import differing
from metavision.comparison.groups import HIGHER, Group, described, on
from metavision.comparison.pairs import Pair, paired
from metavision.records.novelty import not_new
from metavision.records.statistics import Estimate, figure

MOST_NAMED = 8  # pairs of one reason
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, eq=False)
class View:
    """Groups, their pairs, and how to write their figures.

    Args:
        groups: what is compared, of one metric.
        least: the smallest difference that is called one.
    """

    groups: tuple[Group, ...]
    least: float = 0.0

    @property
    def metric(self) -> str:
        return self.groups[0].metric

    @property
    def higher(self) -> bool:
        return HIGHER.get(self.metric, True)

    @cached_property
    def pairs(self) -> list[Pair]:
        return paired(self.groups, higher=self.higher, least=self.least)

    def letter(self, index: int) -> str:
        """A, B, … Z, A2, …"""
        turn, place = divmod(index, len(LETTERS))
        return LETTERS[place] + (str(turn + 1) if turn else "")

    def number(self, value: float, *, signed: bool = False) -> str:
        return figure(value, self.metric, signed=signed)

    def text(self, e: Estimate, *, signed: bool = False) -> str:
        """`63.10 ± 0.20`; a dash where there is no interval."""
        width = self.number(e.half_width) if np.isfinite(e.half_width) else "—"
        return f"{self.number(e.mean, signed=signed)} ± {width}"

    @property
    def unit(self) -> str:
        return " %" if self.metric == "accuracy" else ""

    @cached_property
    def order(self) -> list[int]:
        """Indices of groups, the best first, without a finite mean last; those on other episodes stay apart."""
        sign = -1 if self.higher else 1
        places = {key: i for i, key in enumerate(dict.fromkeys(_episodes(group) for group in self.groups))}

        def place(i: int) -> tuple[int, bool, float]:
            mean = self.groups[i].estimate.mean
            return places[_episodes(self.groups[i])], not np.isfinite(mean), sign * mean

        return sorted(range(len(self.groups)), key=place)

    @property
    def same_episodes(self) -> bool:
        return len({_episodes(group) for group in self.groups}) == 1

    def rows(self) -> list[dict[str, str]]:
        """The table of results."""
        rows = []
        for i in self.order:
            group, result = self.groups[i], self.groups[i].first.result
            over, e = group.over_classes, result["episodes"]
            row = {"": self.letter(i), "what": group.label, self.metric: self.text(group.estimate)}
            row["± over"] = group.estimate.resampled
            row["± classes"] = self.number(over.half_width) if over and np.isfinite(over.half_width) else "—"
            chosen = float(np.mean([entry.validation for entry in group.entries]))
            row["validation"] = figure(chosen, group.first.metric) if np.isfinite(chosen) else "—"
            row["seeds"] = " ".join(str(entry.seed) for entry in group.entries)
            row["episodes"] = f"{e['n']} · {described(group.first)} {e['query']}q"
            row["queries"] = group.said(lambda r: "transductive" if r["transductive"] else "inductive")
            row["normalisation"] = group.said(lambda r: r["normalisation"])
            row["track"] = group.said(_track)
            row["split"] = result["split_hash"]
            rows.append(row)
        return rows

    def lines(self) -> list[str]:
        """What the pairs say, in words; the clear ones first, and of these the best."""
        lines = []
        rank = {i: place for place, i in enumerate(self.order)}
        clear = sorted(self.pairs, key=lambda p: (p.verdict == "not distinguished", rank[p.a] + rank[p.b]))
        for pair in clear:
            if pair.found is None:
                continue
            e, needed, said = pair.found.estimate, pair.found.needed, pair.verdict
            a, b, mean = self.letter(pair.a), self.letter(pair.b), e.mean
            if said == "worse":  # the better one first
                a, b, mean, said = b, a, -mean, "better"
            told = f"{a} is better" if said == "better" else said
            if said == "not distinguished" and self.least and abs(mean) > e.half_width:
                told += f", being below {self.number(self.least)}"
            elif said == "not distinguished" and self.metric == "accuracy" and needed > 1.5 * e.n:
                told += f" at {e.n} episodes; ± half a point would take {_round(needed)}"
            if said == "not tested":
                told += ": several settings are no sample of anything"
            apart = self.text(replace(e, mean=mean), signed=True)
            tested = f", p {p_text(pair.p)}" * (said != "not tested")
            lines.append(f"{a} − {b}: {apart}{tested} — {told}")
        return lines

    def ranked(self) -> "View":
        """The same with the best group first, so that letters and colours go by rank."""
        return View(tuple(self.groups[i] for i in self.order), self.least)

    @property
    def caution(self) -> str:
        """What must not be done with a table of many settings."""
        if len(self.groups) < 3 or not self.same_episodes:
            return ""
        return "the best of several by their test figures is no estimate of itself: choose by validation"

    @property
    def known(self) -> list[str]:
        """Whose classes are known to have been trained on, which no ranking tells."""
        marks: dict[str, list[str]] = {}
        for i, group in enumerate(self.groups):
            for mark in dict.fromkeys(not_new(entry.result) for entry in group.entries):
                if mark:
                    marks.setdefault(mark, []).append(self.letter(i))
        return [f"{' '.join(who)}: {mark}: no few-shot learning" for mark, who in marks.items()]

    @property
    def scope(self) -> str:
        """What the pairs are about, where that is not the ways to train."""
        compared = {i for pair in self.pairs if pair.found for i in (pair.a, pair.b)}
        alone = [self.letter(i) for i in sorted(compared) if len(self.groups[i].entries) == 1]
        if not alone:
            return ""
        if len(alone) == len(self.groups):
            return "of each there is one seed: pairs are about these very networks, not about how they were trained"
        about = "pairs with it are about these very networks, not about how they were trained"
        return f"of {' '.join(alone)} there is one seed: {about}"

    def refused(self) -> list[str]:
        """Which pairs are not pairs, by what is not the same."""
        why: dict[str, list[Pair]] = {}
        for pair in self.pairs:
            if pair.found is None:
                why.setdefault(pair.why.partition(" (")[0], []).append(pair)
        lines = []
        for what, pairs in why.items():
            some = ", ".join(f"{self.letter(p.a)}{self.letter(p.b)}" for p in pairs[:MOST_NAMED])
            more = f" and {len(pairs) - MOST_NAMED} more" if len(pairs) > MOST_NAMED else ""
            inner = pairs[0].why.partition(" (")[2].rstrip(")")
            lines.append(
                f"not paired, {what}: {some}{more} ({self.letter(pairs[0].a)}{self.letter(pairs[0].b)}: {inner})"
            )
        return lines

    def headline(self) -> str:
        """The most that can be said in a sentence."""
        if len(self.groups) == 1:
            return f"{self.groups[0].label}: {self.text(self.groups[0].estimate)}{self.unit}"
        if not self.same_episodes:
            return self._of_several_lists()
        best = self.order[0]
        mine = [pair for pair in self.pairs if best in (pair.a, pair.b) and pair.found is not None]
        beaten = [p for p in mine if p.verdict == ("better" if p.a == best else "worse")]
        even = [p for p in mine if p.verdict == "not distinguished"]
        if all(p.verdict == "not tested" for p in mine):
            return f"{self.groups[best].label} has the best mean; groups of several settings are not tested."
        name = self.groups[best].label
        if not beaten:
            return f"{name} has the best mean, and is not distinguished from {len(even)} of {len(mine)} others."
        nearest = min(beaten, key=lambda p: abs(p.found.estimate.mean if p.found else 0))
        assert nearest.found
        e = nearest.found.estimate
        other = self.groups[nearest.b if nearest.a == best else nearest.a].label
        apart = f"{self.number(abs(e.mean))} ± {self.number(e.half_width)}{' points' * (self.metric == 'accuracy')}"
        rest = f", and not distinguished from {len(even)} others" if even else ""
        if len(mine) == 1:
            return f"{name} is better than {other} by {apart}."
        others = f"{len(beaten)} of {len(mine)} others{rest}"
        return f"{name} is better than {others}; the nearest of these, {other}, by {apart}."

    def _of_several_lists(self) -> str:
        told = [pair for pair in self.pairs if pair.verdict in ("better", "worse")]
        both = [pair for pair in self.pairs if pair.found]
        lists = len({_episodes(group) for group in self.groups})
        if both:
            return f"{lists} lists of episodes; {len(told)} of {len(both)} pairs on the same ones are told apart."
        ends = sorted(group.estimate.mean for group in self.groups)
        return f"{lists} lists of episodes, {self.number(ends[0])} to {self.number(ends[-1])}{self.unit}."

    @cached_property
    def differing(self) -> dict[str, list[str]]:
        """Keys of the configurations in which groups differ, with a value (or several) for each group."""
        return differing([group.entries for group in self.groups])


def p_text(p: float) -> str:
    if np.isnan(p):
        return "—"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _track(result: Mapping[str, Any]) -> str:
    """What the network saw before, the classes of this test among it."""
    return ", ".join(filter(None, (result.get("track", "—"), not_new(result))))


def _round(n: float) -> str:
    return f"{round(n, 2 - len(str(int(n)))):,.0f}"


def _episodes(group: Group) -> Any:
    return on(group.first)[:3]
