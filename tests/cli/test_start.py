"""What a run does not wait for at its start."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from metavision.cli.recorder import Recorder
from metavision.records.run import Run

LATER = (  # torch's compiler and what that takes with it, plots, tables, trackers, sweeps, peers
    *("torch._dynamo", "torch._inductor", "sympy", "torchvision", "matplotlib", "pandas", "scipy.stats", "sklearn"),
    *("wandb", "tensorboard", "jinja2", "optuna", "ray", "joblib", "submitit", "learn2learn", "easyfsl"),
)
PLAIN = """
import sys
from metavision.cli.__main__ import main
words = ["algo=protonet", "backbone.filters=4", "episode.query=2", "budget.steps=2", "references=[]", "logger=none"]
words += [f"budget.{name}_episodes=2" for name in ("validation", "test")]
code = main(["train", *words])
print("imported:", *(name for name in sys.argv[1:] if name in sys.modules))
sys.exit(code)
"""


def test_a_plain_run_imports_only_what_it_uses() -> None:
    done = subprocess.run([sys.executable, "-c", PLAIN, *LATER], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].strip() == "imported:"


class Slow:
    """A tracker that starts when it is let."""

    def __init__(self) -> None:
        self.let, self.heard = threading.Event(), list[str]()

    def start(self, *_: Any) -> str:
        assert self.let.wait(30)
        self.heard.append("start")
        return "it is there"

    def log(self, row: Any) -> None:
        self.heard.append(f"row {row['step']}")

    def finish(self, *_: Any) -> None:
        self.heard.append("finish")


@pytest.mark.parametrize("logs", [0, 2])
def test_a_tracker_starts_beside_the_run_and_hears_all_in_order(
    logs: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, tracker = Run(tmp_path / "run" / "seed0"), Slow()
    run.folder.mkdir(parents=True)
    recorder = Recorder(run, tracker, 5, "accuracy", lambda: 7)  # type: ignore[arg-type]
    recorder.open({}, {})
    recorder.started(0)  # though it is not there yet
    assert not tracker.heard
    tracker.let.set()
    for step in range(logs):
        recorder.logged({"step": step, "split": "train", "loss": 1.0, "accuracy": 0.5}, 4)
    recorder.close({}, None)
    assert tracker.heard == ["start", *(f"row {step}" for step in range(logs)), "finish"]
    assert capsys.readouterr().err.count("it is there") == 1
    assert all(row["timing"]["peak_memory"] == 7 for row in run.metrics()) and len(run.metrics()) == logs


FAULTS = """
import resource, sys
import {first}
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
b"x" * int(sys.argv[1])
before = faults()
for _ in range(20): b"x" * int(sys.argv[1])
print(faults() - before)
"""


def faults(first: str, **environment: str) -> int:
    """Pages that are faulted in by a block of 32 MiB, taken and freed twenty times."""
    code = FAULTS.format(first=first)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    done = subprocess.run(
        [sys.executable, "-c", code, "33554432"], check=True, capture_output=True, text=True, env=kept | environment
    )
    return int(done.stdout)


@pytest.mark.skipif(not os.confstr("CS_GNU_LIBC_VERSION"), reason="not glibc")
def test_large_blocks_are_kept_unless_the_user_says_otherwise() -> None:
    ours = faults("metavision.cli.process")
    for own in ({"MALLOC_MMAP_THRESHOLD_": "1000000"}, {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=1000000"}):
        assert faults("metavision.cli.process", **own) > 5 * (ours + 20)


def test_the_library_changes_nothing_in_a_process() -> None:
    code = "import os, sys, metavision; metavision.load; print(os.environ.get('OMP_WAIT_POLICY')); "
    code += "print('metavision.cli.process' in sys.modules)"
    kept = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=kept)
    assert done.stdout.split() == ["None", "False"]
