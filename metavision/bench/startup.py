"""`bench startup`: seconds of a command in a new process, and what it imported.

All run in turns after one turn to warm up, which leaves files in the system's cache and the data packed.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

from metavision.bench.processes import environment

OURS = ("-m", "metavision.cli")
# `metavision train algo=maml` until its first step is done.
FIRST_STEP = """
import os, sys
from metavision.cli.__main__ import main
from metavision.cli.recorder import Recorder
Recorder.stepped = lambda *_: os._exit(0)
main(["train", "algo=maml", "budget=smoke", "logger=none", "rerun=true"])
sys.exit("no step was taken")
"""
COMMANDS: dict[str, tuple[str, ...]] = {
    "metavision --help": (*OURS, "--help"),
    "metavision train --help": (*OURS, "train", "--help"),
    "metavision train, one step": ("-c", FIRST_STEP),
    "import torch": ("-c", "import torch"),
    "import learn2learn": ("-c", "import learn2learn"),
    "import higher": ("-c", "import higher"),
    "import torchopt": ("-c", "import torchopt"),
    "import easyfsl.methods": ("-c", "import easyfsl.methods"),
}
HEAVIEST = 3  # packages that are named
IMPORTED = re.compile(r"^import time:\s*(\d+) \|\s*\d+ \|\s*(\S+)$", re.MULTILINE)

Row = dict[str, Any]


def rows(rounds: int, commands: dict[str, tuple[str, ...]] = COMMANDS) -> Iterator[Row]:
    """Of each command the median seconds by the clock and of the processor, and seconds of import by package.

    What fails, such as the import of a peer that is not installed, is `missing`, and why.
    """
    with tempfile.TemporaryDirectory(prefix="metavision-bench-") as folder:
        imports: dict[str, dict[str, float]] = {}
        missing: dict[str, str] = {}
        for name, words in commands.items():
            status, said = imported(words, folder)
            imports[name] = by_package(said)
            if status:
                missing[name] = (said.strip().splitlines() or ["it failed"])[-1]
        works = {name: words for name, words in commands.items() if name not in missing}
        turns = [{name: _timed(words, folder) for name, words in works.items()} for _ in range(rounds)]
    for name in commands:
        if name in missing:
            yield {"work": name, "missing": {name: missing[name]}}
            continue
        wall, cpu = (statistics.median(turn[name][clock] for turn in turns) for clock in (0, 1))
        yield {"work": name, "wall": wall, "cpu": cpu, "imports": imports[name], "missing": {}}


def by_package(report: str) -> dict[str, float]:
    """The heaviest packages of a report of `python -X importtime`: seconds of their own modules, without what those
    import of others; and `all`."""
    found: dict[str, float] = {}
    for microseconds, module in IMPORTED.findall(report):
        package = module.partition(".")[0]
        found[package] = found.get(package, 0.0) + int(microseconds) / 1e6
    heaviest = sorted(found, key=lambda package: -found[package])[:HEAVIEST]
    return {"all": sum(found.values())} | {package: found[package] for package in heaviest}


def imported(words: Sequence[str], folder: str) -> tuple[int, str]:
    """The exit code and what a new Python with these arguments said, imports among it."""
    command = [sys.executable, "-X", "importtime", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(os.environ), cwd=folder, check=False)
    return done.returncode, done.stderr


def _timed(words: Sequence[str], folder: str) -> tuple[float, float]:
    """Seconds by the clock, and of the processor, of a new Python with these arguments."""
    quiet = subprocess.DEVNULL
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *words], stdout=quiet, stderr=quiet, env=environment(os.environ), cwd=folder
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # so that it is not waited for again
    return time.perf_counter() - begun, used.ru_utime + used.ru_stime
