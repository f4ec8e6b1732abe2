"""Trains the published numbers that lag most, one after another, within a budget of time: `make reproduce`.

BUDGET=short TIME=60 make reproduce

An experiment of conf/experiment is missing while benchmarks/runs holds no run of it at its own settings and of this
budget or the full one. First come those whose row in RESULTS.md is empty, in the order of `results.py --pending`; then
those with another run, that which falls furthest short of the paper's figure first. The command can be given again and
again: what its time cuts off goes on where it stood, what is finished is stored, and RESULTS.md is written anew.
"""

import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import results
from commands import ROOT, Report, call, progress, rows
from results import Experiment, Stored
from store import store

from metavision.cli.guard import guarded
from metavision.cli.parser import Parser
from metavision.errors import InputError
from metavision.records import provenance
from metavision.records.run import Run

WORK = ROOT / "build" / "reproduce"
BUDGETS = ("short", "full")  # the second is more than the first
LEAST = 20.0  # seconds that a run is worth starting for
GRACE = 120.0  # seconds at most that a run has to end its step, with a validation, and write its checkpoint in
HEAVY = ("resnet12", "conv512")  # backbones that a CPU needs hours for, even at the short budget


@dataclass(frozen=True)
class Course:
    """The settings of one `make reproduce`.

    Args:
        budget: of each run.
        seconds: for everything.
        experiments: where they are.
        stored: where finished runs are kept.
        work: where runs that are not finished lie, and logs.
        words: overrides for every run.
    """

    budget: str
    seconds: float
    experiments: Path = results.EXPERIMENTS
    stored: Path = results.RUNS
    work: Path = WORK
    words: Sequence[str] = ()

    def command(self, name: str) -> list[str]:
        words = [f"experiment={name}", f"budget={self.budget}", "logger=none", *self.words]
        return [sys.executable, "-m", "metavision.cli", "train", *words, f"outputs={self.outputs(name)}"]

    def outputs(self, name: str) -> Path:
        return self.work / self.budget / name


def missing(course: Course, *, heavy: bool) -> list[str]:
    """Names of the experiments to run, that which lags most first; heavy: those for a GPU, too."""
    asked = [Experiment.read(path) for path in course.experiments.glob("*.yaml")]
    folders = [folder for folder in course.stored.iterdir() if folder.is_dir()] if course.stored.is_dir() else []
    runs = [Stored.read(folder) for folder in folders]
    enough = BUDGETS[BUDGETS.index(course.budget) :]
    wanted = []
    for experiment in asked:
        of_row = [run for run in runs if run.key == experiment.key]
        has = any(run.config["budget"]["name"] in enough and not run.differences(experiment) for run in of_row)
        if not (has or experiment.staged or (experiment.key.backbone in HEAVY and not heavy)):
            wanted.append((-lag(experiment, of_row), results.worth(experiment.key), experiment.path.stem))
    return [name for *_, name in sorted(wanted)]


def lag(experiment: Experiment, runs: Sequence[Stored]) -> float:
    """By how many points the best run of a row falls short; endless without a run, 0 where nothing can be said."""
    if not runs:
        return math.inf
    return min(found if (found := run.lag(experiment)) is not None else 0.0 for run in runs)


def follow(course: Course, names: Sequence[str], begun: float) -> Iterator[Report]:
    """Trains one after another until the time is over; one that fails keeps none from running after it."""
    logs = course.work / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    for name in names:
        grace = min(GRACE, course.seconds / 10)
        left = begun + course.seconds - grace - time.monotonic()
        if left < min(LEAST, course.seconds / 10):
            return
        before = rows(course.outputs(name))
        report = call(name, course.command(name), left, log=logs / f"{name}.txt", env=environment(), grace=grace)
        if report.rc == 0:
            for folder in sorted(course.outputs(name).glob("*/seed*")):
                keep(Run(folder), course.stored)
        yield replace(report, found=progress(course.outputs(name), before))


def keep(run: Run, stored: Path) -> None:
    """Stores a finished run that is not stored yet."""
    if run.done and not (stored / run.name).exists():
        print(f"stored: {store(run, stored, dirty=False).relative_to(stored.parent)}", flush=True)


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"OMP_WAIT_POLICY": "passive", **os.environ, "PYTHONPATH": path}


def said(course: Course, report: Report) -> str:
    """What came of a run, in a line."""
    found = report.found
    if "result" in found:
        return f"{report.name}: {100 * found['result']['mean']:.2f} ± {100 * found['result']['half_width']:.2f}"
    if report.failed:
        log = course.work / "logs" / f"{report.name}.txt"
        return f"{report.name}: failed; {log} ends in: {(log.read_text().strip().splitlines() or [''])[-1]}"
    where = f"step {found['step']} of {found['steps']}" if found else "its beginning"
    minutes = f", about {found['minutes_to_the_end']:.0f} minutes from its end" if "minutes_to_the_end" in found else ""
    return f"{report.name}: cut off at {where}{minutes}; the same command goes on"


def main(words: Sequence[str]) -> int:
    begun, asked = time.monotonic(), os.environ.get
    parser = Parser(prog="reproduce.py", description=__doc__)
    parser.add_argument("--budget", choices=BUDGETS, default=asked("BUDGET", "short"), help="of each run")
    parser.add_argument("--time", type=float, default=asked("TIME", "60"), metavar="MINUTES", help="for everything")
    parser.add_argument("--experiments", default=asked("EXPERIMENTS", ""), help="which, with commas; else what lags")
    parser.add_argument("--list", action="store_true", help="only print what is missing, in order")
    parser.add_argument("words", nargs="*", help="overrides for every run, as seed=1 or engine.threads=1")
    given = parser.parse_args(words)
    course = Course(given.budget, 60 * given.time, words=given.words)
    names = [name for name in given.experiments.split(",") if name] or missing(course, heavy=accelerated())
    if unknown := [name for name in names if not (course.experiments / f"{name}.yaml").is_file()]:
        raise InputError(f"there is no experiment {unknown[0]}; they are the files of conf/experiment")
    if given.list or not names:
        print("\n".join(names) or f"nothing is missing at the {course.budget} budget")
        return 0
    git = provenance.git()
    if git is None or git["dirty"]:
        raise InputError("a stored run says by which commit it was made; commit what is changed in metavision and conf")
    reports = []
    try:
        for report in follow(course, names, begun):
            reports.append(report)
            print(said(course, report), flush=True)
    finally:
        results.PAGE.write_text(results.page(course.experiments, course.stored), encoding="utf-8")
    if not reports:
        print(f"{given.time:g} minutes are too few to begin a run in")
    return int(any(report.failed for report in reports))


def accelerated() -> bool:
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
