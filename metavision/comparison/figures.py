"""The charts of a comparison; each yields nothing where it would have nothing to show."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from metavision.comparison.charts import (
    Chart,
    colour,
    element,
    heat,
    path,
    percent,
    plain,
    powers,
    short,
    svg,
    ticks,
    words,
)
from metavision.comparison.entries import Entry
from metavision.comparison.groups import Group
from metavision.comparison.view import View
from metavision.records.calibration import calibration, finite
from metavision.records.classes import Confusion
from metavision.records.details import SEED, class_rows

MOST_CLASSES = 40  # of a matrix that can still be read
MOST_SCATTERS = 6
MOST_POINTS = 240  # of a curve
MOST_AXES = 6
USUAL = 0.97  # of training: its first losses can be ten times what follows


class Figure(NamedTuple):
    """A picture, and what is to be known of it."""

    title: str
    svg: str
    about: str = ""
    key: Sequence[tuple[str, str]] = ()  # of what the legend of the page does not name: colours and names


def style(index: int) -> str:
    """Of a group's marks: its colour, and a name by which the legend hides them."""
    return f"{colour(index)} g{index}"


def padded(values: Sequence[float], by: float = 0.07) -> tuple[float, float]:
    """The range of values, a little wider."""
    low, high = min(values), max(values)
    return low - by * ((high - low) or 0.1), high + by * ((high - low) or 0.1)


def learning(view: View) -> Iterator[Figure]:
    """Validation and training loss against the step, with bands over seeds."""
    metric = view.groups[0].first.metric
    for split, key, title in (("val", metric, f"Validation {metric}"), ("train", "loss", "Training loss")):
        curves = {i: c for i, group in _trained(view).items() if (c := _curve(group, split, key)) is not None}
        if not any(len(c.steps) > 1 for c in curves.values()):
            continue
        is_share = key == "accuracy"
        low, high = padded([v for c in curves.values() for v in c.usual(1 if split == "val" else USUAL)])
        curves = {i: c.within(low, high) for i, c in curves.items()}
        chart = Chart(
            label=title,
            x=(0, max(c.steps[-1] for c in curves.values())),
            y=(low, high),
            x_label="outer step",
            y_label=f"{key}{' (%)' * is_share}",
            y_text=percent if is_share else plain,
        )
        for i, c in curves.items():
            chart.band(c.steps, list(c.low), list(c.high), style(i))
            chart.line(zip(c.steps, c.mean, strict=True), style(i), view.groups[i].label)
        yield Figure(title, chart.svg(), _bands(view, split))


def _trained(view: View) -> dict[int, Group]:
    """Groups by number, of evaluations of the same runs only the first."""
    first: dict[tuple[str, ...], int] = {}
    for i, group in enumerate(view.groups):
        first.setdefault(tuple(str(entry.run) for entry in group.entries), i)
    return {i: view.groups[i] for i in first.values()}


class Curve(NamedTuple):
    """Of a group: the mean over its runs, at the steps that all of them have, and the edges of a band."""

    steps: list[int]
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def usual(self, share: float) -> tuple[float, float]:
        """The range of most of its steps."""
        return float(np.quantile(self.low, 1 - share)), float(np.quantile(self.high, share))

    def within(self, low: float, high: float) -> "Curve":
        """The same, cut at the edges of a chart."""
        return Curve(self.steps, *(np.clip(part, low, high) for part in (self.mean, self.low, self.high)))


def _curve(group: Group, split: str, key: str) -> Curve | None:
    runs = []
    for entry in {entry.run: entry for entry in group.entries}.values():
        rows = {row["step"]: row for row in entry.curve if row["split"] == split and row.get(key) is not None}
        runs.append(rows)
    steps = sorted(set.intersection(*(set(rows) for rows in runs)))
    if not steps:
        return None
    steps = [steps[i] for i in np.unique(np.linspace(0, len(steps) - 1, MOST_POINTS).astype(int))]
    values = np.array([[rows[step][key] for step in steps] for rows in runs], dtype=float)
    if len(runs) > 1:
        return Curve(steps, values.mean(0), values.min(0), values.max(0))
    half = np.array([runs[0][step].get(f"{key}_half_width") or 0.0 for step in steps])
    return Curve(steps, values[0], values[0] - half, values[0] + half)


def _bands(view: View, split: str) -> str:
    alone = any(len(group.entries) == 1 for group in view.groups)
    said = ["from the lowest to the highest seed"] * any(len(group.entries) > 1 for group in view.groups)
    said += ["of a single seed, the 95 % interval over validation episodes"] * (split == "val" and alone)
    return f"Band: {'; '.join(said)}." if said else ""


def scatters(view: View) -> Iterator[Figure]:
    """Every episode as a point: one group's accuracy against another's."""
    if view.metric != "accuracy":
        return
    rank = {i: place for place, i in enumerate(view.order)}
    for pair in sorted(view.pairs, key=lambda pair: rank[pair.a] + rank[pair.b]):  # the best ones first
        if pair.found is None:
            continue
        a, b = (view.groups[i].values.mean(0) for i in (pair.a, pair.b))
        low = min(math.floor(10 * min(a.min(), b.min())) / 10, 0.9)
        one, other = view.letter(pair.a), view.letter(pair.b)
        chart = Chart(
            label=f"accuracy of every episode, {one} against {other}",
            x=(low, 1),
            y=(low, 1),
            x_label=f"{other}: accuracy (%)",
            y_label=f"{one}: accuracy (%)",
            x_text=percent,
            y_text=percent,
            height=400,
        )
        chart.line([(low, low), (1, 1)], "guide")
        near = np.stack([np.round(part * 25) / 25 for part in (b, a)])
        places, counts = np.unique(near, axis=1, return_counts=True)
        for (x, y), count in zip(places.T, counts, strict=True):
            title = f"{count} episodes: {one} near {100 * y:.0f} %, {other} near {100 * x:.0f} %"
            chart.dot(x, y, "bubble", title, 1.2 + 6.5 * float(count / counts.max()) ** 0.5)
        about = f"{one} ahead in {100 * (a > b).mean():.0f} % of episodes, {other} in {100 * (a < b).mean():.0f} %"
        if np.isfinite(pair.found.correlation):
            about += f"; correlation {pair.found.correlation:.2f}"
        yield Figure(f"{one} against {other}", chart.svg(), f"{about}.")


def first_scatters(view: View) -> Iterator[Figure]:
    """No more than can be looked at."""
    for figure, _ in zip(scatters(view), range(MOST_SCATTERS), strict=False):
        yield figure


SETTINGS = {"shot": "shot", "way": "way", "steps": "steps of adaptation"}


def against(view: View) -> Iterator[Figure]:
    """The metric against shot, way, or steps of adaptation, where evaluations differ in these."""
    for name, title in SETTINGS.items():
        lines: dict[str, dict[float, Group]] = {}
        for group in view.groups:
            if (x := _setting(group, name)) is not None:
                lines.setdefault(_rest(group, name), {})[x] = group
        lines = {key: dict(sorted(points.items())) for key, points in lines.items() if len(points) > 1}
        if not lines:
            continue
        estimates = [group.estimate for points in lines.values() for group in points.values()]
        widths = [e.half_width if np.isfinite(e.half_width) else 0.0 for e in estimates]
        xs = sorted({x for points in lines.values() for x in points})
        chart = Chart(
            label=f"{view.metric} against {title}",
            x=(xs[0], xs[-1]),
            y=padded([e.mean + sign * w for e, w in zip(estimates, widths, strict=True) for sign in (-1, 1)]),
            x_label=title,
            y_label=f"{view.metric}{' (%)' * bool(view.unit)}",
            y_text=percent if view.unit else plain,
            x_ticks=xs,
            log=xs[0] > 0 and xs[-1] / xs[0] > 8,
        )
        for i, (key, points) in enumerate(lines.items()):
            chart.line([(x, group.estimate.mean) for x, group in points.items()], colour(i), key)
            for x, group in points.items():
                e = group.estimate
                if np.isfinite(e.half_width):
                    chart.line([(x, e.mean - e.half_width), (x, e.mean + e.half_width)], f"whisker {colour(i)}")
                chart.dot(x, e.mean, colour(i), f"{key}: {view.text(e)}{view.unit}")
        named = [(colour(i), key) for i, key in enumerate(lines)]
        yield Figure(f"{view.metric.capitalize()} against {title}", chart.svg(), "", named)


def _setting(group: Group, name: str) -> Any:
    result = group.first.result
    return result["episodes"][name] if name in ("shot", "way") else (result.get("asked") or {}).get(name)


def _rest(group: Group, name: str) -> str:
    """What else tells evaluations apart."""
    result = group.first.result
    told = (*SETTINGS, "checkpoint")
    others = [f"{other}={v}" for other in told if other != name and (v := _setting(group, other)) is not None]
    seeds = " ".join(str(entry.seed) for entry in group.entries)
    return " ".join([group.first.setting, "seed", seeds, result["data"], *others, result["normalisation"]])


def reliability(view: View) -> Iterator[Figure]:
    """How often an answer of some confidence is right."""
    quarters = [0, 0.25, 0.5, 0.75, 1]
    chart = Chart(
        label="reliability",
        x=(0, 1),
        y=(0, 1),
        x_label="confidence (%)",
        y_label="right (%)",
        x_text=percent,
        y_text=percent,
        x_ticks=quarters,
        y_ticks=quarters,
        height=400,
    )
    chart.line([(0, 0), (1, 1)], "guide")
    errors, lost = [], 0
    for i, group in enumerate(view.groups):
        if group.summed("bins") is None:
            continue
        bins, without = _bins(group)
        lost += without
        if not bins.any():
            continue
        count, sure, right = bins[bins[:, 0] > 0.001 * bins[:, 0].sum()].T
        points = list(zip(sure / count, right / count, strict=True))
        chart.line(points, style(i), group.label)
        for (x, y), n in zip(points, count / count.sum(), strict=True):
            title = f"{view.letter(i)}: {100 * n:.0f} % of answers, {100 * x:.0f} % sure, {100 * y:.0f} % right"
            chart.dot(x, y, style(i), title, 3)
        found = [ece for entry in group.entries if (ece := _ece(entry))]
        width = f" ({100 * found[0]['low']:.1f} to {100 * found[0]['high']:.1f})" if len(found) == 1 else ""
        errors.append(f"{view.letter(i)} {100 * np.mean([e['mean'] for e in found]):.1f}{width}")
    if errors:
        about = f"Below the line: too sure. Expected calibration error in points: {', '.join(errors)}."
        if lost:
            about += f" Without {lost} episode{'s' * (lost > 1)} whose outputs were not finite."
        yield Figure("Reliability", chart.svg(), about)


def _bins(group: Group) -> tuple[np.ndarray, int]:
    """The counts of all episodes that have finite probabilities, and how many have none."""
    there = [finite(entry.arrays["bins"], entry.arrays["brier"]) for entry in group.entries]
    kept = [entry.arrays["bins"][rows].astype(float) for entry, rows in zip(group.entries, there, strict=True)]
    return sum((bins.sum(0) for bins in kept), np.zeros(kept[0].shape[1:])), sum(int((~rows).sum()) for rows in there)


def _ece(entry: Entry) -> Mapping[str, float]:
    """As it was recorded, or by what was kept; nothing where no episode has finite probabilities."""
    recorded = entry.result.get("calibration", {}).get("ece", {})
    if recorded.get("low") is not None:
        return recorded
    return calibration(entry.arrays["bins"], entry.arrays["brier"], np.random.default_rng(SEED)).get("ece", {})


def confusions(view: View) -> Iterator[Figure]:
    """Who is taken for whom, by real class."""
    for i, group in enumerate(view.groups):
        names = _classes(group)
        if not names:
            continue
        found = [Confusion(e.arrays["confusion"], e.arrays["classes"], len(names)) for e in group.entries]
        with np.errstate(invalid="ignore"):
            share = np.nan_to_num(sum(c.matrix() for c in found) / sum(c.met() for c in found))
        wrong = share - np.diag(np.diag(share))
        a, b = np.unravel_index(wrong.argmax(), wrong.shape)
        about = (
            f"Most confused: {names[a]} taken for {names[b]}, in {100 * wrong[a, b]:.0f} % of its queries in episodes "
            "that had both."
        )
        yield Figure(f"{view.letter(i)}: who is taken for whom", heat(share.tolist(), names, "confusion"), about)


def _classes(group: Group) -> list[str]:
    """Names of classes, where a matrix of them can be read."""
    if any("confusion" not in entry.arrays for entry in group.entries):
        return []
    names = [str(name) for name in group.first.arrays["names"]]
    return names if 2 <= len(names) <= MOST_CLASSES else []


def by_class(view: View) -> Iterator[Figure]:
    """The recall of every class, for each group."""
    tables = {
        i: {row["class"]: row for row in class_rows(group.first.arrays)}
        for i, group in enumerate(view.groups)
        if _classes(group)
    }
    if len({tuple(sorted(table)) for table in tables.values()}) != 1:
        return
    first = next(iter(tables.values()))
    names = sorted(first, key=lambda name: first[name]["recall"])
    height, left, width = 20 * len(names) + 46, 130, 480
    least = min(row["recall"] for table in tables.values() for row in table.values())
    low = min(math.floor(10 * least) / 10, 0.9)

    def x(v: float) -> float:
        return left + (width - left - 16) * (max(low, min(v, 1)) - low) / (1 - low)

    parts = []
    for v in ticks(low, 1):
        parts.append(element("line", style="grid", x1=x(v), x2=x(v), y1=6, y2=height - 34))
        parts.append(words(percent(v), x(v), height - 20, anchor="middle"))
    for row, name in enumerate(names):
        y = 16 + 20 * row
        parts.append(words(short(name), left - 8, y + 4, anchor="end"))
        for i, table in tables.items():
            found = {key: 100 * table[name][key] for key in ("recall", "precision", "f1")}
            mean, half = table[name]["recall"], table[name]["recall ±"]
            title = "{}: recall {recall:.1f}{}, precision {precision:.1f}, F1 {f1:.1f}"
            known = math.isfinite(half)  # which it is not of a class that was in one episode
            if known:
                parts.append(path([(x(mean - half), y), (x(mean + half), y)], f"whisker {style(i)}"))
            said = title.format(f"{view.letter(i)} {name}", f" ± {100 * half:.1f}" * known, **found)
            parts.append(element("circle", title=said, style=f"dot {style(i)}", cx=x(mean), cy=y, r=4))
    parts.append(words("recall (%)", (left + width) / 2, height - 4, "name", "middle"))
    yield Figure("Recall by class", svg("recall by class", width, height, parts), "± over episodes, of the first seed.")


def parallel(view: View) -> Iterator[Figure]:
    """A sweep: every run a line through its settings to its figure."""
    runs = [(i, entry) for i, group in enumerate(view.groups) for entry in group.entries]
    table = _varied(view)
    keys = sorted(table, key=lambda key: -len(set(table[key])))[:MOST_AXES]
    if len(runs) < 4 or len(keys) < 2:
        return
    width, height, top, bottom, left = 1000, 320, 40, 300, 60
    gap = (width - 150) / len(keys)
    means = np.array([entry.values.mean() for _, entry in runs])
    columns = [_places([table[key][i] for i, _ in runs]) for key in keys]
    columns.append(_places([f"{m:.10g}" for m in means]))
    parts = []
    for c, (name, (_, marks)) in enumerate(zip([*keys, view.metric], columns, strict=True)):
        x = left + c * gap
        parts.append(element("line", style="axis", x1=x, x2=x, y1=top, y2=bottom))
        parts.append(words(name, x, top - 16, "name", "middle"))
        for place, text in marks:
            shown = view.number(float(text)) if c == len(keys) else short(text)
            parts.append(words(shown, x + 6, bottom - place * (bottom - top) + 4))
    good = (means - means.min()) / ((means.max() - means.min()) or 1)
    for r, (i, entry) in enumerate(runs):
        places = [(left + c * gap, bottom - at[r] * (bottom - top)) for c, (at, _) in enumerate(columns)]
        line = path(places, f"chord {style(i)}", f"{entry.name}: {view.number(means[r])}{view.unit}")
        strength = 0.25 + 0.75 * float(good[r] if view.higher else 1 - good[r])
        parts.append(element("g", line, opacity=f"{strength:.2f}"))
    parts.sort(key=lambda part: part.startswith("<text"))  # words above lines
    picture = svg("settings of every run, and its figure", width, height, parts)
    yield Figure("Settings and what came of them", picture, "A line is a run; the stronger, the better.")


def _varied(view: View) -> dict[str, list[str]]:
    """What was set, for each group: the algorithm, and keys that do not just follow from it."""
    whose = [group.first.setting.rpartition("-")[0] for group in view.groups]
    table = {"algorithm and data": whose} if len(set(whose)) > 1 else {}
    for key, values in view.differing.items():
        follows = len(set(zip(whose, values, strict=True))) == len(set(whose))
        if not follows and not key.endswith("_target_"):
            table[key] = values
    return table


def _places(values: Sequence[str]) -> tuple[list[float], list[tuple[float, str]]]:
    """Places in [0, 1] of values, and marks: numbers by size (by powers where they span two), others in order."""
    try:
        numbers = np.array([float(v) for v in values])
    except ValueError:
        kinds = list(dict.fromkeys(values))
        at = {kind: (k + 0.5) / len(kinds) for k, kind in enumerate(kinds)}
        return [at[v] for v in values], [(at[kind], kind) for kind in kinds]
    scaled = np.log10(numbers) if (numbers > 0).all() and numbers.max() / numbers.min() > 50 else numbers
    places = 0.04 + 0.92 * (scaled - scaled.min()) / ((scaled.max() - scaled.min()) or 1)
    marks = sorted({float(p): v for p, v in zip(places, values, strict=True)}.items())
    return [float(p) for p in places], marks if len(marks) <= 8 else [marks[0], marks[-1]]


def cost(view: View) -> Iterator[Figure]:
    """The metric against what a task costs."""
    points = {}
    for i, group in enumerate(view.groups):
        costs = [entry.result["cost"] for entry in group.entries if entry.result.get("cost")]
        if costs:
            points[i] = float(np.median([c["adapt_ms"] + c["predict_ms"] for c in costs])), group.estimate.mean
    if len(points) < 2:
        return
    xs, ys = zip(*points.values(), strict=True)
    over = (0.7 * min(xs), 1.4 * max(xs))
    log = over[1] > 10 * over[0]
    chart = Chart(
        label="cost of a task",
        x=over,
        y=padded(ys, 0.2),
        x_label="milliseconds a task: adaptation and queries",
        y_label=f"{view.metric}{' (%)' * bool(view.unit)}",
        y_text=percent if view.unit else plain,
        x_ticks=powers(*over) if log else None,
        log=log,
    )
    for i, (x, y) in points.items():
        chart.dot(x, y, style(i), f"{view.groups[i].label}: {x:.1f} ms, {view.number(y)}{view.unit}", 6)
        chart.note(x, y, view.letter(i))
    about = "Median of five tasks, one at a time, from images to answers; machines may differ."
    yield Figure("What a task costs", chart.svg(), about)
