"""`metavision bench`: measure against peers on the same work."""

import json
from pathlib import Path

from rich.table import Table

from metavision.cli.parser import Parser
from metavision.console import note, stdout

EXAMPLES = """examples
  metavision bench data            episodes a second: ours, learn2learn's and easyfsl's
  metavision bench data --json outputs/bench.json
"""
WHO = ("metavision", "learn2learn", "easyfsl")
WORKS = {"data": "episodes a second from image data, against learn2learn's Taskset and easyfsl's sampler"}


def main(words: list[str]) -> int:
    parser = Parser(
        prog="metavision bench",
        description="Times this engine against peers on the same work, in turns, on one thread.",
        epilog=EXAMPLES,
    )
    parser.add_argument("what", choices=WORKS, help="; ".join(f"{name}: {what}" for name, what in WORKS.items()))
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu", help="where batches are wanted")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = parser.parse_args(words)
    from metavision.bench import data
    from metavision.engine import device

    place = device.resolve(given.device)
    stdout.print(
        f"5-way 5-shot 15-query episodes of 84 x 84 on {device.name(place)}: milliseconds an episode, one thread"
    )
    table = Table(box=None, pad_edge=False)
    for column in ("work", *WHO, "faster than the best"):
        table.add_column(column, justify="left" if column == "work" else "right")
    rows = []
    for row in data.rows(place):
        rows.append(row)
        times = (f"{row[f'{who} ms']:.2f}" if f"{who} ms" in row else "-" for who in WHO)
        table.add_row(row["work"], *times, f"{row['ratio']:.1f}x")
        note(f"{row['work']}: done")
    stdout.print(table)
    for why in sorted(set(rows[0]["missing"].values())):
        stdout.print(f"not measured: {why}", soft_wrap=True)
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps({"device": device.name(place), "rows": rows}, indent=1), encoding="utf-8")
    return 0
