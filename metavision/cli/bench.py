"""`metavision bench`: measure against peers on the same work."""

import argparse
import json
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

from metavision.cli.parser import Parser
from metavision.console import note, stdout
from metavision.drafts import draft_of, reachable
from metavision.errors import InputError, suggestion

EXAMPLES = """examples
  metavision bench train                     a meta-gradient: ours, learn2learn's, higher's, TorchOpt's, easyfsl's
  metavision bench train --work "MAML 84" --rounds 11 --json train.json --chart train.png
  metavision bench adapt --work ProtoNet     adapting to a new task, and answering its queries
  metavision bench data --json data.json     episodes a second
  metavision bench evaluate --run outputs/protonet-cifarfs-1a2b3c4d/seed0
  metavision bench startup                   from a command to its end
"""
WORKS = {
    "train": "a meta-gradient, compared with that of peers first",
    "adapt": "adaptation to one new task, and the answers to its queries",
    "data": "episodes from image data, against learn2learn's Taskset and easyfsl's sampler",
    "evaluate": "scoring prototypical networks, against easyfsl by images and by cached features (on a CPU)",
    "startup": "new processes, from the command to its end, and what they import",
}
PEERS = ("learn2learn", "higher", "torchopt", "easyfsl")

Row = dict[str, Any]
Report = dict[str, Any]  # of which `rows` is what was measured


def main(words: list[str]) -> int:
    given = _parser().parse_args(words)
    runs: dict[str, Callable[[argparse.Namespace], Report]] = {
        "train": _turns,
        "adapt": _turns,
        "data": _data,
        "evaluate": _evaluate,
        "startup": _startup,
    }
    report = runs[given.what](given)
    from metavision.bench import tables

    for line in tables.unmeasured(report["rows"]):
        stdout.print(line, soft_wrap=True, markup=False)
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="metavision bench",
        description="Times this engine against peers on the same work, in turns.",
        epilog=EXAMPLES,
    )
    every, placed = Parser(add_help=False), Parser(add_help=False)
    every.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    placed.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu", help="where it is done")
    whats = parser.add_subparsers(dest="what", required=True, metavar="what")
    made = {
        what: whats.add_parser(
            what, help=about, description=about, parents=[every] if what == "startup" else [every, placed]
        )
        for what, about in WORKS.items()
    }
    for what in ("train", "adapt"):
        made[what].add_argument("--work", default="", metavar="TEXT", help="only what has this in its name")
        made[what].add_argument("--rounds", type=int, default=7, help="turns of each contender (7)")
        made[what].add_argument("--threads", type=int, default=1, help="of the CPU (1)")
    made["train"].add_argument("--tasks", type=int, help="at a time (on a GPU as published, on a CPU at most 8)")
    made["train"].add_argument("--chart", type=Path, metavar="FILE", help="draw a picture, as PNG")
    made["evaluate"].add_argument("--run", type=Path, help="of algo=protonet")
    made["evaluate"].add_argument("--episodes", type=int, default=10_000, help="that are scored")
    made["startup"].add_argument("--rounds", type=int, default=5, help="turns of each command (5)")
    return parser


@cache
def _origin() -> Report:
    from importlib.metadata import PackageNotFoundError, version

    from metavision.records.provenance import provenance

    origin = provenance()
    kept = {key: origin[key] for key in ("metavision", "code", "python", "packages", "processors")}
    for peer in PEERS:
        try:
            kept["packages"][peer] = version(peer)
        except PackageNotFoundError:
            continue
    return kept


def _measured(
    given: argparse.Namespace,
    about: Report,
    rows: Iterator[Row],
    drawn: Callable[[list[Row]], None] | None = None,
) -> Report:
    """The report, whose file is written row by row, and whose picture is `drawn` of the rows that there are at the end:
    a command that is cut off loses the one it is at."""
    report: Report = {**about, "rows": []}
    try:
        for row in rows:
            report["rows"].append(row)
            if given.json:
                with draft_of(given.json) as draft:
                    draft.write_text(json.dumps({**report, "origin": _origin()}, indent=1), encoding="utf-8")
            note(f"{row['work']}: done")
    finally:
        if drawn and report["rows"]:
            drawn(report["rows"])
    return report


def _at_least_one(**numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise InputError(f"--{name} is {number}; at least 1 is needed")


def _turns(given: argparse.Namespace) -> Report:
    """`train` and `adapt`."""
    from metavision.bench import cost, tables, turns, work
    from metavision.bench.hardware import hardware
    from metavision.engine import device

    tasks, picture = getattr(given, "tasks", None), getattr(given, "chart", None)
    _at_least_one(rounds=given.rounds, threads=given.threads, tasks=tasks)
    every = work.TRAIN if given.what == "train" else work.ADAPT
    works = [one for one in every if given.work.lower() in one.name.lower()]
    if not works:
        names = [one.name for one in every]
        raise InputError(f"no work has {given.work} in its name{suggestion(given.work, names)}")
    if picture:
        if picture.suffix != ".png":
            raise InputError(f"--chart is {picture}; a name that ends in .png is needed")
        reachable(picture)
    place = device.resolve(given.device)
    device.configure("fp32", deterministic=False, threads=given.threads)
    plan = turns.Plan(given.what, place, given.threads, given.rounds, tasks)
    on = hardware(place, given.threads)
    what = "a meta-gradient, ms a task" if given.what == "train" else "a new task learned and answered, ms"
    clock = "process CPU time" if plan.clock == "cpu" else "time by the clock"
    stdout.print(f"{what}, float32, medians of {given.rounds} rounds of {clock}\n{on}", soft_wrap=True)
    ceiling = cost.ceiling(place)
    about = {
        "about": what,
        "device": str(place),
        "hardware": on,
        "threads": given.threads,
        "rounds": given.rounds,
        "clock": plan.clock,
        "ceiling": ceiling,
    }

    def drawn(rows: list[Row], path: Path) -> None:
        from metavision.bench import chart

        below = f"{on}; float32, medians of {given.rounds} rounds of {clock}; meta-gradients are equal"
        chart.draw(rows, "Speed of a meta-gradient", below, path)

    report = _measured(given, about, turns.rows(works, plan, ceiling), picture and partial(drawn, path=picture))
    for table in tables.turns(report["rows"]):
        stdout.print(table)
    flops, bandwidth = ceiling["flops"] / 1e9, ceiling["bytes"] / 1e9
    best = f"{flops:.0f} GFLOP/s in a product or a convolution, {bandwidth:.0f} GB/s in a copy"
    stdout.print(f"this device's ceiling: {best}", soft_wrap=True)
    return report


def _startup(given: argparse.Namespace) -> Report:
    import torch

    from metavision.bench import startup, tables
    from metavision.bench.hardware import hardware

    _at_least_one(rounds=given.rounds)
    on = hardware(torch.device("cpu"), torch.get_num_threads())
    about = {"about": "seconds of new processes", "hardware": on, "rounds": given.rounds}
    report = _measured(given, about, startup.rows(given.rounds))
    for table in tables.startup(report["rows"]):
        stdout.print(table)
    return report


def _episodes(about: str, given: argparse.Namespace, rows: Iterator[Row]) -> Report:
    """`data` and `evaluate`."""
    from metavision.bench import tables

    stdout.print(f"{about}: milliseconds an episode, one thread", soft_wrap=True)
    report = _measured(given, {"about": about, "device": given.device}, rows)
    for table in tables.episodes(report["rows"]):
        stdout.print(table)
    return report


def _data(given: argparse.Namespace) -> Report:
    from metavision.bench import data
    from metavision.engine import device

    place = device.resolve(given.device)
    return _episodes(f"5-way 5-shot 15-query episodes of 84 x 84 on {device.name(place)}", given, data.rows(place))


def _evaluate(given: argparse.Namespace) -> Report:
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
    _at_least_one(episodes=given.episodes)
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
    return _episodes(about, given, evaluate.rows(algorithm, stored.meta, episodes, given.episodes))
