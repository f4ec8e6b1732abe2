"""The picture of benchmarks/profile_step.py."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt

BAR, LEAST, QUIET = "#9db7d5", "#1f4e8c", "#666666"


def draw(report: Mapping[str, Any], path: Path) -> None:
    """For every step its kinds of work: the time taken as light bars, and in them, dark, the least by the ceiling."""
    rows = report["rows"]
    heights = [len(row["kinds"]) for row in rows]
    figure, axes = plt.subplots(
        len(rows), 1, figsize=(9, 0.27 * sum(heights) + 1.05 * len(rows) + 0.9), height_ratios=heights, squeeze=False
    )
    for axis, row in zip(axes[:, 0], rows, strict=True):
        kinds = row["kinds"][::-1]
        places = range(len(kinds))
        axis.barh(places, [kind["ms"] for kind in kinds], height=0.72, color=BAR)
        axis.barh(places, [kind["least_ms"] for kind in kinds], height=0.26, color=LEAST)
        for place, kind in zip(places, kinds, strict=True):
            text = f"{kind['ms']:.1f} ms, {100 * kind['ms'] / row['ms']:.0f} %"
            axis.text(max(kind["ms"], kind["least_ms"]), place, f"  {text}", va="center", fontsize=8, color=QUIET)
        axis.set_yticks(places, [kind["kind"] for kind in kinds], fontsize=8.5)
        axis.set_xlim(0, 1.2 * max(max(kind["ms"], kind["least_ms"]) for kind in kinds))
        axis.set_title(
            f"{row['work']}\n{row['ms']:.0f} ms a step ({row['mapping']}); "
            f"{row['ratio']:.1f} times the least by the ceiling, {row['least_ms']:.0f} ms",
            loc="left",
            fontsize=9.5,
        )
        axis.spines[["top", "right", "bottom"]].set_visible(False)
        axis.tick_params(axis="both", length=0)
        axis.set_xticks([])
    limits = report["ceiling"]
    figure.suptitle(
        f"{report['device']}: ceiling {limits['gflop_per_second']:.0f} GFLOP/s (product or convolution), "
        f"{limits['gb_per_second']:.1f} GB/s (copy)",
        x=0.01,
        ha="left",
        fontsize=10.5,
    )
    figure.legend(
        handles=[
            mpl.patches.Patch(color=BAR, label="time taken"),
            mpl.patches.Patch(color=LEAST, label="least by the ceiling"),
        ],
        loc="lower right",
        ncols=2,
        fontsize=8.5,
        frameon=False,
    )
    figure.tight_layout(rect=(0, 0.025, 1, 0.985))
    figure.savefig(path, dpi=130)
