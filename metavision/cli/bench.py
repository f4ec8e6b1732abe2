"""`metavision bench`: measure against peers on the same work."""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from metavision.cli.parser import Parser
from metavision.console import note, stdout
from metavision.errors import InputError

EXAMPLES = """examples
  metavision bench data            episodes a second: ours, learn2learn's and easyfsl's
  metavision bench evaluate --run outputs/protonet-cifarfs-1a2b3c4d/seed0
  metavision bench data --json outputs/bench.json
"""
WORKS = {
    "data": "episodes from image data, against learn2learn's Taskset and easyfsl's sampler",
    "evaluate": "scoring prototypical networks, against easyfsl by images and by cached features (on a CPU)",
}


def main(words: list[str]) -> int:
    parser = Parser(
        prog="metavision bench",
        description="Times this engine against peers on the same work, in turns, on one thread.",
        epilog=EXAMPLES,
    )
    parser.add_argument("what", choices=WORKS, help="; ".join(f"{name}: {what}" for name, what in WORKS.items()))
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu", help="where batches are wanted")
    parser.add_argument("--run", type=Path, help="of algo=protonet, for evaluate")
    parser.add_argument("--episodes", type=int, default=10_000, help="that are scored, for evaluate")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = parser.parse_args(words)
    about, found = (_data if given.what == "data" else _evaluate)(given)
    stdout.print(f"{about}: milliseconds an episode, one thread", soft_wrap=True)
    rows = []
    for row in found:
        rows.append(row)
        note(f"{row['work']}: done")
    _show(rows)
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        from metavision.records.provenance import provenance

        origin = provenance()
        kept = {key: origin[key] for key in ("metavision", "code", "python", "packages", "processors")}
        report = {"about": about, "device": given.device, "origin": kept, "rows": rows}
        given.json.write_text(json.dumps(report, indent=1), encoding="utf-8")
    return 0


def _data(given: argparse.Namespace) -> tuple[str, Iterator[dict[str, Any]]]:
    from metavision.bench import data
    from metavision.engine import device

    place = device.resolve(given.device)
    return f"5-way 5-shot 15-query episodes of 84 x 84 on {device.name(place)}", data.rows(place)


def _evaluate(given: argparse.Namespace) -> tuple[str, Iterator[dict[str, Any]]]:
    import torch

    from metavision import build
    from metavision.algorithms.protonet import ProtoNet
    from metavision.bench import evaluate
    from metavision.data.batches import Episodes
    from metavision.engine import checkpoint, device

    if given.device != "cpu":
        raise InputError(f"bench evaluate is of a CPU, where its peer is timed, not of {given.device}")
    if given.run is None:
        raise InputError(
            "bench evaluate needs --run, that of algo=protonet: outputs/protonet-glyphs-1a2b3c4d/seed0, say"
        )
    place = torch.device("cpu")
    device.configure("fp32", deterministic=False, threads=1)
    stored = checkpoint.read(checkpoint.find(given.run))
    config = stored.about["config"]
    data = build.dataset(config)
    spec = build.specs(config)["test"]
    episodes = build.episodes(config, data.source("test"), spec, 0, place, scaling=build.scaling_of(stored.about))
    algorithm = build.algorithm(config, data.shape, spec.way, stored.about["classes"]).for_evaluation()
    if (
        not isinstance(episodes, Episodes)
        or type(algorithm) is not ProtoNet
        or algorithm.metric != "euclidean"
        or algorithm.backbone.norm == "batch"
    ):
        raise InputError(f"{given.run} is no run of algo=protonet with norm=running, which is what the peer has")
    about = f"{given.episodes} {spec.way}-way {spec.shot}-shot {spec.query}-query episodes of {data.name}"
    return about, evaluate.rows(algorithm, stored.meta, episodes, given.episodes)


def _show(rows: Sequence[Mapping[str, Any]]) -> None:
    """A table with a column for each of those that were timed."""
    who = list(dict.fromkeys(key.removesuffix(" ms") for row in rows for key in row if key.endswith(" ms")))
    table = Table(box=None, pad_edge=False)
    for column in ("work", *who, "faster than the best"):
        table.add_column(column, justify="left" if column == "work" else "right")
    for row in rows:
        times = (f"{row[f'{name} ms']:.2f}" if f"{name} ms" in row else "-" for name in who)
        table.add_row(row["work"], *times, f"{row['ratio']:.1f}x")
    stdout.print(table)
    for why in sorted(set(rows[0].get("missing", {}).values())):
        stdout.print(f"not measured: {why}", soft_wrap=True)
