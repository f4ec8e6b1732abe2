"""A comparison as one HTML file that needs nothing else: no network, no library, no server."""

import time
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment

import metavision
from metavision.comparison import figures
from metavision.comparison.charts import colour, interval_row
from metavision.comparison.entries import Entry
from metavision.comparison.pairs import OPPOSITE, Pair
from metavision.comparison.view import View, p_text


def page(view: View) -> str:
    """The whole file."""
    source = {name: files("metavision.comparison").joinpath(name).read_text("utf-8") for name in FILES}
    rows = view.rows()
    names = list(rows[0])[3:]
    shared = [name for name in names if len(rows) > 1 and len({row[name] for row in rows}) == 1]
    entries = [(i, entry) for i, group in enumerate(view.groups) for entry in group.entries]
    low, high = _scale(view)
    template = Environment(autoescape=True).from_string(source["page.html"])
    return template.render(
        title=_title(view),
        style=source["page.css"],
        script=source["page.js"],
        view=view,
        colour=colour,
        scale=f"{view.number(low)} to {view.number(high)}",
        names=[name for name in names if name not in shared],
        shared=[(name, rows[0][name]) for name in shared],
        rows=[(i, row, _picture(view, i, (low, high))) for i, row in zip(view.order, rows, strict=True)],
        matrix=_matrix(view) if any(pair.found for pair in view.pairs) else [],
        refused=view.refused(),
        sections=_sections(view),
        costs=[_cost(i, entry) for i, entry in entries] if any(e.result.get("cost") for _, e in entries) else [],
        entries=entries,
        version=metavision.__version__,
        when=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    )


FILES = ("page.html", "page.css", "page.js")
SECTIONS = {
    "Training": (figures.learning,),
    "Against settings": (figures.against,),
    "Sweep": (figures.parallel,),
    "Episode by episode": (figures.first_scatters,),
    "Classes and confidence": (figures.reliability, figures.by_class, figures.confusions),
    "What a task costs": (figures.cost,),
}
WIDE = ("Sweep",)


def _sections(view: View) -> list[dict[str, Any]]:
    return [
        {"title": title, "wide": title in WIDE, "figures": [figure for make in makers for figure in make(view)]}
        for title, makers in SECTIONS.items()
    ]


def _title(view: View) -> str:
    runs, n = len({entry.run for group in view.groups for entry in group.entries}), len(view.groups)
    what = view.groups[0].label if n == 1 else f"{n} compared on {view.metric}"
    return f"{what}, {runs} run{'s' * (runs > 1)}"


def _scale(view: View) -> tuple[float, float]:
    """That all intervals fit on."""
    ends = []
    for group in view.groups:
        widths = [e.half_width for e in (group.estimate, group.over_classes) if e and np.isfinite(e.half_width)]
        ends += [group.estimate.mean + sign * max(widths, default=0.0) for sign in (-1, 1)]
    return figures.padded(ends, 0.05)


def _picture(view: View, i: int, scale: tuple[float, float]) -> str:
    group = view.groups[i]
    wide = group.over_classes.half_width if group.over_classes else float("nan")
    return interval_row(group.estimate.mean, group.estimate.half_width, wide, scale, colour(i), group.label)


def _matrix(view: View) -> list[tuple[int, list[dict[str, str]]]]:
    """Rows of cells, in the order of the results."""
    table = {(pair.a, pair.b): pair for pair in view.pairs}
    return [
        (i, [_cell(view, table.get((i, j)) or table.get((j, i)), flipped=i > j) for j in view.order])
        for i in view.order
    ]


def _cell(view: View, pair: Pair | None, *, flipped: bool) -> dict[str, str]:
    if pair is None:
        return {"kind": "itself", "about": "", "words": ""}
    if pair.found is None:
        return {"kind": "unpaired", "about": pair.why, "words": "not paired"}
    e, said = pair.found.estimate, pair.verdict
    if flipped:
        said = OPPOSITE.get(said, said)
    return {
        "kind": said if said in OPPOSITE else "even",
        "about": f"{said}; over {e.resampled}, n = {e.n}",
        "mean": view.number(-e.mean if flipped else e.mean, signed=True),
        "width": view.number(e.half_width) if np.isfinite(e.half_width) else "—",
        "p": p_text(pair.p),
    }


def _cost(i: int, entry: Entry) -> tuple[int, str, list[str], str]:
    found = entry.result.get("cost") or {}
    times = [f"{found[key]:.1f}" if key in found else "—" for key in ("adapt_ms", "predict_ms")]
    memory = f"{found['memory'] / 2**20:.0f}" if "memory" in found else "—"
    seconds = [s for row in entry.curve if (s := (row.get("timing") or {}).get("seconds")) is not None]
    training = f"{max(seconds) / 60:.0f} min" if seconds else "—"
    return i, entry.name, [*times, memory, training], str(entry.provenance.get("device", "—"))
