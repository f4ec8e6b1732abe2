"""A picture of `bench train`: how many times as fast as learn2learn each contender is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metavision.bench.contenders import OURS
from metavision.bench.turns import FIRST, SAME_ALLOCATOR

Row = Mapping[str, Any]

COLOURS = {OURS: "#1d6fb8", SAME_ALLOCATOR: "#7fa8cc", "higher": "#b9c0c8", "TorchOpt": "#949ca6", "easyfsl": "#d3c3a3"}
INK, FAINT = "#22272e", "#6b7480"
BAR = 0.82  # of a row's height, shared by its contenders


def draw(rows: Sequence[Row], title: str, below: str, path: Path) -> None:
    """Writes a PNG.

    Args:
        rows: of `bench train`; those in which learn2learn was not timed are left out.
        title: over the picture.
        below: under it, small: on what it was measured.
        path: of the picture.
    """
    from matplotlib.figure import Figure

    rows = [row for row in rows if FIRST in row["contenders"]]
    figure = Figure(figsize=(8, 1.5 + 0.62 * len(rows)), dpi=150, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    shown = [name for name in COLOURS if any(name in row["contenders"] for row in rows)]
    furthest = 1.0
    for at, row in enumerate(rows):
        here = [name for name in shown if name in row["contenders"]]
        height = BAR / max(len(here), 3)  # a row of two is not made of thicker bars than the others
        for i, name in enumerate(here):
            place = at + (i - (len(here) - 1) / 2) * height
            value = end = speed(row, name)
            label = name if at == _first_with(rows, name) else None
            axes.barh(place, value, 0.88 * height, color=COLOURS[name], label=label, zorder=2)
            ours = name == OURS
            if ours:  # the quartiles over rounds
                low, end = row["contenders"][FIRST]["quartiles"]
                axes.plot([low, end], [place, place], color=INK, linewidth=1, solid_capstyle="butt", zorder=3)
            furthest = max(furthest, value, end)
            axes.annotate(
                f"{value:.1f}×" if ours else f"{value:.2f}",
                (max(value, end), place),
                (4, 0),
                textcoords="offset points",
                va="center_baseline",
                fontsize=9 if ours else 6.5,
                color=INK if ours else FAINT,
                fontweight="bold" if ours else "normal",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},  # over the line at 1
                zorder=5,
            )
    axes.axvline(1, color=INK, linewidth=1, zorder=4)
    axes.annotate(FIRST, (1, 1), (0, 3), ("data", "axes fraction"), "offset points", ha="center", fontsize=8, color=INK)
    axes.set_yticks(range(len(rows)), [row["work"] for row in rows], fontsize=9, color=INK)
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.set_xlim(0, 1.12 * furthest)  # with room for the figure behind
    axes.set_xlabel(f"times as fast as {FIRST}", fontsize=9, color=FAINT)
    axes.tick_params(length=0, labelcolor=INK, labelsize=9)
    axes.grid(axis="x", color="#e8ebee", zorder=0)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=40)
    if rows:
        above = 1 + 0.25 / (0.62 * len(rows))  # a quarter of an inch, where learn2learn's name stands
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, above), ncols=len(shown), frameon=False, fontsize=8, borderaxespad=0.3,
            borderpad=0, handlelength=1, handleheight=1,
        )  # fmt: skip
    figure.supxlabel(below, fontsize=7.5, color=FAINT, x=0.01, ha="left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def speed(row: Row, name: str) -> float:
    """Of a contender, learn2learn's being 1."""
    timed = row["contenders"]
    return timed[FIRST]["ratio"] / (1.0 if name == OURS else timed[name]["ratio"])


def _first_with(rows: Sequence[Row], name: str) -> int:
    return next(at for at, row in enumerate(rows) if name in row["contenders"])
