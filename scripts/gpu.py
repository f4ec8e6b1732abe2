"""What a CUDA device is wanted for, in one command and one budget of time: `make gpu`, see docs/gpu.md.

In this order: the GPU tests, the benchmarks, the profile of a training step, and the published numbers that have no run
yet, each from where an earlier command left it. A part that fails or takes too long keeps none from running after it.

Needs nothing but Python itself: the parts run with the packages of `wheels/`, if that folder is there, or of .venv.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import commands
from commands import ROOT, Report, progress, rows

WORK = ROOT / "build" / "gpu"
SHARES = {"tests": 6, "bench-train": 8, "bench-data": 1, "profile": 1, "runs": 8}  # of the time, while all have some
LEAST = 30.0  # seconds that a run is worth starting for
INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM  # exit codes, as of a shell
CHECKPOINT_EVERY = 100  # steps: what a run that is cut off loses at most
SPARED = 0.04  # of the budget, at most 20 s: for a part to end after it is told to, and once more for the summary
ASK = """
import json, os, platform, torch
cuda = torch.cuda.is_available()
print(json.dumps({
    "device": torch.cuda.get_device_name() if cuda else "cpu",
    "memory_gib": round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1) if cuda else None,
    "torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(),
    "python": platform.python_version(), "processors": os.cpu_count(),
}))
"""
TINY = {  # of a dry run: the same course in seconds, on the data that needs no files
    "runs": [
        "data=glyphs", "backbone.filters=4", "episode.train.way=5", "episode.train.query=1", "episode.meta_batch=1",
        "references=[]", "budget.validate_every=100", "budget.validation_episodes=4",
        "budget.test_episodes=4", "budget.checkpoint_every=10", "budget.log_every=10", "engine.threads=1",
    ],
    "bench-train": ["--work", "ProtoNet", "--tasks", "1", "--rounds", "1"],
    "profile": ["--tiny"],
}  # fmt: skip
TINY_RUNS = {"protonet-omniglot-5w1s": 50, "maml-omniglot-5w1s": 100_000}  # steps: one comes to its end, one is cut off


@dataclass(frozen=True)
class Course:
    """The settings of one `make gpu`.

    Args:
        device: cuda, or cpu for a dry run of the same course with tiny settings.
        budget: seconds for everything.
        out: where results go, as few files, as is wanted where they have to be carried away.
        runs: where runs lie; they are gone on with.
        parts: which of SHARES.
        experiments: which; none: those that have no stored run of the full budget.
        python: the interpreter of the parts.
        env: of the parts.
    """

    device: str
    budget: float
    out: Path
    runs: Path
    parts: Sequence[str]
    experiments: Sequence[str]
    python: str
    env: Mapping[str, str]

    @property
    def dry(self) -> bool:
        return self.device == "cpu"

    @property
    def grace(self) -> float:
        return min(20.0, SPARED * self.budget)

    def command(self, part: str) -> list[str]:
        """Of a part that is one command."""
        metavision, words = [self.python, "-m", "metavision.cli"], TINY.get(part, []) if self.dry else []
        place = ["--device", self.device]
        tests = [str(path) for path in sorted(ROOT.glob("tests/engine/test_gpu*.py"))]
        json_, chart = ["--json", str(WORK / f"{part}.json")], ["--chart", str(WORK / f"{part}.png")]
        return {
            "tests": [self.python, "-m", "pytest", "-m", "gpu", *tests, f"--junitxml={WORK / 'tests.xml'}"],
            "bench-train": [*metavision, "bench", "train", *place, *json_, *chart, "--rounds", "3"],
            "bench-data": [*metavision, "bench", "data", *place, *json_],
            "profile": [self.python, "benchmarks/profile_step.py", *place, *json_, *chart],
        }[part] + words

    def training(self, experiment: str) -> list[str]:
        words = [f"experiment={experiment}", "budget=full", f"device={self.device}", "logger=none"]
        if self.dry:
            words += [*TINY["runs"], f"budget.steps={TINY_RUNS.get(experiment, 50)}"]
        else:
            words.append(f"budget.checkpoint_every={CHECKPOINT_EVERY}")
        return [self.python, "-m", "metavision.cli", "train", *words, f"outputs={self.runs / experiment}"]


def follow(course: Course, begun: float) -> Iterator[Report]:
    """Runs part after part. What one leaves of its time is there for all after it."""
    end = begun + course.budget - course.grace  # the rest is for the summary
    parts = [part for part in SHARES if part in course.parts]
    for i, part in enumerate(parts):
        if part == "runs":
            yield from _runs(course, end)
            continue
        share = SHARES[part] / sum(SHARES[later] for later in parts[i:])
        report = call(course, part, course.command(part), share * (end - time.monotonic()) - course.grace)
        yield replace(report, found=_figures(part))


def _runs(course: Course, end: float) -> Iterator[Report]:
    """Trains what is pending: each in half of the time that is left, the last in all of it."""
    names = list(course.experiments) or _pending(course)
    for i, name in enumerate(names):
        left = end - time.monotonic() - course.grace
        least = min(LEAST, course.budget / 20)
        if left < least:
            return
        half = left / 2 if i + 1 < len(names) and left / 2 > least else left
        before = rows(course.runs / name)
        report = call(course, name, course.training(name), half)
        yield replace(report, found=progress(course.runs / name, before))


def call(course: Course, name: str, command: Sequence[str], seconds: float) -> Report:
    return commands.call(name, command, seconds, log=_log(name), env=course.env, grace=course.grace)


def _log(name: str) -> Path:
    return WORK / "logs" / f"{name}.txt"


def _figures(part: str) -> dict[str, Any]:
    """What a part has found, from the files that it wrote."""
    if part == "tests":
        with suppress(OSError, ET.ParseError):
            suite = ET.parse(WORK / "tests.xml").getroot().find("testsuite")  # noqa: S314 - our own file
            assert suite is not None
            return {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
        return {}
    with suppress(OSError, json.JSONDecodeError):
        return json.loads((WORK / f"{part}.json").read_text())
    return {}


def _pending(course: Course) -> list[str]:
    """The experiments that no stored and no finished run has, in the order of their worth."""
    names = list(TINY_RUNS)
    if not course.dry:
        command = [course.python, "scripts/results.py", "--pending"]
        asked = subprocess.run(command, cwd=ROOT, env=dict(course.env), capture_output=True, text=True, check=False)
        if asked.returncode:
            print(f"runs: what is pending can't be found out: {asked.stderr.strip()}", flush=True)
        names = asked.stdout.split()
    return [name for name in names if not list((course.runs / name).glob("*/seed0/DONE"))]


def machine(course: Course) -> dict[str, Any]:
    """What it runs on."""
    about: dict[str, Any] = {}
    asked = subprocess.run(
        [course.python, "-c", ASK], env=dict(course.env), capture_output=True, text=True, check=False
    )
    with suppress(json.JSONDecodeError):
        about = json.loads(asked.stdout)
    with suppress(OSError):
        smi = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(smi, capture_output=True, text=True, check=False)
        about["driver"] = driver.stdout.strip() if driver.returncode == 0 else None
    return about


def write(course: Course, about: Mapping[str, Any], reports: Sequence[Report], seconds: float) -> None:
    """summary.json and summary.md, as far as things have come."""
    course.out.mkdir(parents=True, exist_ok=True)
    parts, runs = ([r for r in reports if (r.name in SHARES) is is_part] for is_part in (True, False))
    summary = {
        "machine": about,
        "budget": course.budget,
        "seconds": round(seconds, 1),
        "dry": course.dry,
        "parts": [asdict(report) for report in parts],
        "runs": [asdict(report) for report in runs],
    }
    (course.out / "summary.json").write_text(json.dumps(summary, indent=1))
    lines = [f"# make gpu{' (a dry run, with tiny settings)' * course.dry}", ""]
    lines += [", ".join(f"{key} {value}" for key, value in about.items() if value is not None), ""]
    lines += [f"{seconds:.0f} of {course.budget:.0f} seconds.", ""]
    if parts:
        lines += ["| part | exit code | seconds | found |", "| --- | --- | --- | --- |"]
        lines += [f"| {r.name} | {_code(r)} | {r.seconds} | {_in_words(r)} |" for r in parts]
    if runs:
        columns = ("step", "steps", "measured_steps", "ms_a_step", "projected_minutes", "minutes_to_the_end")
        lines += ["", f"| experiment | exit code | seconds | {' | '.join(columns)} | result |"]
        lines += ["| --- " * (len(columns) + 4) + "|"]
        for r in runs:
            cells = " | ".join(str(r.found.get(column, "")) for column in columns)
            result = f"{100 * r.found['result']['mean']:.2f} %" if "result" in r.found else ""
            lines.append(f"| {r.name} | {_code(r)} | {r.seconds} | {cells} | {result} |")
        lines += ["", "Minutes are projected from the measured steps, validations counted in, the final test not."]
    (course.out / "summary.md").write_text("\n".join(lines) + "\n")


def _code(report: Report) -> str:
    return f"{report.rc}{', cut off' * report.cut}"


def _in_words(report: Report) -> str:
    """The figures of a part in a cell; those of a benchmark are rows."""
    rows = report.found.get("rows", [])
    if not rows:
        return ", ".join(f"{key} {value}" for key, value in report.found.items() if isinstance(value, int | float))
    return "<br>".join(f"{row['work']}: {_ratios(row)}" for row in rows)


def _ratios(row: Mapping[str, Any]) -> str:
    """Of a row: that to the best or to the ceiling, or the time of each peer over ours."""
    if "ratio" in row:
        return f"{row['ratio']:.2f}x"
    peers = {name: found["ratio"] for name, found in row.get("contenders", {}).items() if "ratio" in found}
    return ", ".join(f"{name} {ratio:.2f}x" for name, ratio in peers.items()) or "no peer"


def pack(course: Course) -> None:
    """Pictures as they are; logs and figures, and the runs, each in an archive."""
    for picture in WORK.glob("*.png"):
        shutil.copy(picture, course.out)
    with tarfile.open(course.out / "results.tar.gz", "w:gz") as archive:
        for path in [*sorted(WORK.glob("*.json")), *sorted(WORK.glob("*.xml")), WORK / "logs"]:
            archive.add(path, path.name)
    if course.runs.is_dir():
        with tarfile.open(course.out / "runs.tar.gz", "w:gz", compresslevel=1) as archive:
            archive.add(course.runs, "runs")


def unpacked(runs: str) -> Path:
    """Where runs lie: the folder that was named, or that into which the archive of an earlier command is unpacked.

    Raises:
        ValueError: it is no such archive, or there are runs already, which may have come further.
    """
    if not runs.endswith(".tar.gz"):
        return Path(runs).resolve()
    if not (Path(runs).is_file() and tarfile.is_tarfile(runs)):
        raise ValueError(f"{runs} is no archive of runs")
    with tarfile.open(runs) as archive:
        if "runs" not in archive.getnames():
            raise ValueError(f"{runs} holds no runs/; runs.tar.gz does")
        if any((WORK / "runs").glob("*")):
            raise ValueError(f"{WORK / 'runs'} has runs already; move them away, or leave RUNS out to go on with them")
        archive.extractall(WORK, filter="data")
    return WORK / "runs"


def packages() -> tuple[str, dict[str, str]]:
    """The interpreter of the parts and their environment."""
    env, path = {**os.environ, "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive")}, [str(ROOT)]
    python = str(ROOT / ".venv" / "bin" / "python")
    if (ROOT / "wheels").is_dir():
        python, carried = sys.executable, ROOT / "build" / "packages"
        subprocess.run([python, str(ROOT / "scripts" / "install_wheels.py"), str(carried)], check=False)
        path.append(str(carried))
    elif not Path(python).exists():
        python = sys.executable
    return python, env | {"PYTHONPATH": os.pathsep.join([*path, *filter(None, [os.environ.get("PYTHONPATH")])])}


def main() -> int:
    begun = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    said = os.environ.get
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a dry run, tiny")
    parser.add_argument("--budget", type=float, default=said("BUDGET", "540"), help="seconds for everything")
    parser.add_argument("--out", type=Path, default=said("OUT", "outputs/gpu"), help="where results go")
    parser.add_argument("--runs", default=said("RUNS", str(WORK / "runs")), help="a folder, or an earlier runs.tar.gz")
    parser.add_argument("--parts", default=said("PARTS", ",".join(SHARES)), help="which, with commas")
    parser.add_argument(
        "--experiments", default=said("EXPERIMENTS", ""), help="which, with commas; else what is pending"
    )
    given = parser.parse_args()
    parts, experiments = given.parts.split(","), [name for name in given.experiments.split(",") if name]
    if unknown := set(parts) - set(SHARES):
        parser.error(f"there is no part {min(unknown)}; there are {', '.join(SHARES)}")
    # A shell that starts this in the background has it ignore SIGINT, and the parts would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # which ends the part that runs, and packs
    try:
        runs, out = unpacked(given.runs), given.out.resolve()
    except ValueError as error:
        parser.error(str(error))
    for kind in ("*.json", "*.png", "*.xml", "logs/*"):  # of an earlier command; its runs stay
        for old in WORK.glob(kind):
            old.unlink()
    (WORK / "logs").mkdir(parents=True, exist_ok=True)
    course = Course(given.device, given.budget, out, runs, parts, experiments, *packages())
    reports: list[Report] = []
    about = machine(course)
    if not course.dry and not about.get("memory_gib"):
        parser.error(f"{course.python} finds no CUDA device; --device cpu is a dry run")
    write(course, about, reports, time.monotonic() - begun)
    try:
        for report in follow(course, begun):
            reports.append(report)
            write(course, about, reports, time.monotonic() - begun)
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        pack(course)
    print((course.out / "summary.md").read_text())
    return int(any(report.failed for report in reports))


if __name__ == "__main__":
    sys.exit(main())
