"""What the benchmarks print, in 80 columns."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from metavision.bench.contenders import OURS
from metavision.bench.turns import FIRST, SAME_ALLOCATOR

Row = Mapping[str, Any]
SHORT = {FIRST: "l2l", SAME_ALLOCATOR: "l2l*"}


def turns(rows: Sequence[Row]) -> list[RenderableType]:
    """Of `bench train` and `bench adapt`: how fast and how large each contender is."""
    peers = _peers(rows)
    names = [SHORT.get(peer, peer) for peer in peers]
    fast = _table("work", "ours", *names, "quartiles")
    large = _table("work", "ours", *names, "GFLOP", "%")
    for row in rows:
        timed = row["contenders"]
        ours = timed[OURS]
        ratios = (f"{timed[peer]['ratio']:.2f}" if peer in timed else "-" for peer in peers)
        low_high = "–".join(f"{value:.2f}" for value in timed[FIRST]["quartiles"]) if FIRST in timed else "-"
        fast.add_row(row["work"], f"{1e3 * ours['seconds'] / row['tasks']:.1f}", *ratios, low_high)
        sizes = (_mebibytes(timed[peer]["peak"]) if peer in timed else "-" for peer in peers)
        flops = f"{row['flops'] / row['tasks'] / 1e9:.2f}"
        large.add_row(row["work"], _mebibytes(ours["peak"]), *sizes, flops, f"{100 * row['reached']:.0f}")
    about_time = "time: of ours in ms a task, of peers as a multiple of it"
    about_memory = "peak memory in MiB; GFLOP a task, and % of the ceiling in the time taken"
    about_short = "; ".join(f"{short}: {peer}" for peer, short in SHORT.items())
    return [about_time, fast, about_memory, large, about_short]  # not titles, which are folded where a table is narrow


def startup(rows: Sequence[Row]) -> list[RenderableType]:
    """Of `bench startup`."""
    table = _table("command", "clock", "CPU", "its heaviest imports")
    table.columns[-1].justify = "left"
    for row in rows:
        if "wall" in row:
            heavy = {name: value for name, value in row["imports"].items() if name != "all" and value >= 0.05}
            heaviest = ", ".join(f"{name} {value:.1f}" for name, value in heavy.items())
            table.add_row(row["work"], f"{row['wall']:.2f}", f"{row['cpu']:.2f}", heaviest)
    return ["seconds of a new process", table]


def episodes(rows: Sequence[Row]) -> list[RenderableType]:
    """Of `bench data` and `bench evaluate`: milliseconds of each of those that were timed."""
    who = list(dict.fromkeys(key.removesuffix(" ms") for row in rows for key in row if key.endswith(" ms")))
    table = _table("work", *who, "faster than the best")
    for row in rows:
        times = (f"{row[f'{name} ms']:.2f}" if f"{name} ms" in row else "-" for name in who)
        table.add_row(row["work"], *times, f"{row['ratio']:.1f}x" if "ratio" in row else "-")
    return [table]


def unmeasured(rows: Sequence[Row]) -> list[str]:
    """A line for everything that was not measured, those that hold for all rows once."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        for who, why in row.get("missing", {}).items():
            reasons.setdefault(why if who in why else f"{who}: {why}", []).append(row["work"])
    return [
        f"not measured: {why}" + ("" if len(works) == len(rows) else f" ({', '.join(works)})")
        for why, works in sorted(reasons.items())
    ]


def _peers(rows: Sequence[Row]) -> list[str]:
    """Who was timed at anything."""
    return [name for name in dict.fromkeys(name for row in rows for name in row["contenders"]) if name != OURS]


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=not i)
    return table


def _mebibytes(size: float | None) -> str:
    return "-" if size is None else f"{size / 2**20:.0f}"
