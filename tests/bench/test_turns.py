"""Contenders are timed in processes of their own, which end when they should; what is wrong is not timed."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest
import torch

from metavision.algorithms.base import Algorithm
from metavision.algorithms.maml import MAML
from metavision.bench import child, contenders, processes, turns
from metavision.bench.contenders import OURS
from metavision.bench.peers.higher import Higher
from metavision.bench.processes import ContenderFailed, Job, Process
from metavision.bench.turns import FIRST, Plan
from metavision.engine.mapping import Mapper
from metavision.errors import MetavisionError
from metavision.types import Episode, Meta
from tests.bench.works import TRAINED

CPU = torch.device("cpu")
PLAN = Plan("train", CPU, threads=1, rounds=2, tasks=1)
WORK, LOOP = TRAINED[0], Mapper()
CEILING = {"flops": 1e9, "bytes": 1e9}


def has_ended(pid: int, patience: float = 20) -> bool:
    """Whether there is no such process any more, or only what is left of one that nobody has waited for."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


def test_a_job_is_read_as_it_was_written() -> None:
    job = PLAN.job(OURS, WORK, Mapper("vmap", 3))
    assert Job.read(job.written()).written() == job.written()
    assert Job.read(job.written()).mapper == job.mapper


def test_before_memory_is_measured_ours_has_seen_the_smallest_images_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As peers have: what is set up for a size counts for all."""
    seen = []

    def meta_grad(self: MAML, meta: Meta, tasks: Episode, mapper: Mapper) -> Any:
        seen.append(tasks.support.x.shape)
        return Algorithm.meta_grad(self, meta, tasks, mapper)

    monkeypatch.setattr(MAML, "meta_grad", meta_grad)
    handlers = child._prepared(replace(PLAN.job(OURS, WORK, LOOP), door=False).written())
    assert seen == [WORK.tiny().tasks(1, CPU, torch.float32).support.x.shape]
    handlers["go"]()
    assert seen[1] == WORK.tasks(1, CPU, torch.float32).support.x.shape


def test_ours_begins_as_metavision_does_and_peers_do_not() -> None:
    assert PLAN.job(OURS, WORK, LOOP).door and not PLAN.job(FIRST, WORK, LOOP).door
    same = PLAN.job(turns.SAME_ALLOCATOR, WORK, LOOP)
    assert same.door and same.contender == FIRST
    found = processes.environment(
        {"OMP_WAIT_POLICY": "passive", "MALLOC_ARENA_MAX": "1", "GLIBC_TUNABLES": "", "HOME": "/", "PYTHONPATH": "a"}
    )
    assert found.keys() == {"HOME", "PYTHONPATH"} and found["PYTHONPATH"].endswith(f"{os.pathsep}a")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="memory and processes are read from /proc")
def test_rows_are_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a real run; a contender whose process fails is reported beside the others."""
    pytest.importorskip("higher")
    monkeypatch.setattr(contenders, "PEERS", {"higher": Higher})
    monkeypatch.setattr(
        turns, "differences", lambda *_: {"higher": 0.0, "second": 0.0, "third": "third is not installed"}
    )
    (row,) = turns.rows([WORK], PLAN, CEILING)
    assert row["work"] == WORK.name and row["tasks"] == 1
    assert row["mapping"] == str(contenders.chosen(WORK, "train", 1, CPU))
    assert row["contenders"].keys() == {OURS, "higher"}
    assert row["missing"]["third"] == "third is not installed"
    assert "second failed: KeyError" in row["missing"]["second"]
    ours, higher = (row["contenders"][name] for name in (OURS, "higher"))
    for found in (ours, higher):
        assert found["seconds"] == found["cpu"] > 0 and found["wall"] > 0 and found["peak"] >= 0
    low, high = higher["quartiles"]
    assert 0 < low <= higher["ratio"] <= high and higher["difference"] == 0
    assert row["flops"] > 0 and row["bytes"] > 0
    assert row["reached"] == pytest.approx(row["flops"] / ours["seconds"] / CEILING["flops"])


def test_a_wrong_gradient_is_reported_and_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(Higher):
        def backward(self, task: Any) -> None:
            super().backward(task)
            next(iter(self.net.parameters())).grad.mul_(1.001)

    pytest.importorskip("higher")
    begun: list[str] = []

    class Timed:
        """In the place of a process."""

        def __init__(self, job: Job) -> None:
            begun.append(job.contender)

        def ask(self, question: str) -> dict[str, float]:
            return {
                "ready": {},
                "peak": {"bytes": 1},
                "go": {"cpu": 1.0, "wall": 2.0},
                "count": {"flops": 1, "bytes": 1},
            }[question]

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            return None

    monkeypatch.setattr(contenders, "PEERS", {"higher": Wrong, "learn2learn": Higher})
    monkeypatch.setattr(turns, "Process", Timed)
    (row,) = turns.rows([WORK], PLAN, CEILING)
    assert row["missing"]["higher"].startswith("its result differs by 0.000")
    assert begun == [OURS, FIRST, FIRST]  # the second time with our allocator
    assert row["contenders"][FIRST]["ratio"] == 1 and row["contenders"][FIRST]["seconds"] == 1


def test_ours_may_not_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "differences", lambda *_: {})
    monkeypatch.setattr(processes.sys, "executable", "/bin/false")
    with pytest.raises(MetavisionError, match="metavision ended with exit code 1: without a word"):
        list(turns.rows([WORK], PLAN, CEILING))


def test_a_contender_that_fails_says_why_and_ends() -> None:
    with Process(PLAN.job("nobody", WORK, LOOP)) as process:
        with pytest.raises(ContenderFailed, match="nobody failed: KeyError"):
            process.ask("ready")
        with pytest.raises(ContenderFailed, match="exit code 1"):
            process.ask("go")
    assert process.process.returncode == 1


PARENT = """
import sys, time
from metavision.bench.processes import Job, Process
process = Process(Job.read(sys.argv[1]))
print(process.process.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked for in /proc")
def test_a_contender_ends_when_its_parent_is_killed() -> None:
    command = [sys.executable, "-c", PARENT, PLAN.job(OURS, WORK, LOOP).written()]
    environment = processes.environment(os.environ)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    assert has_ended(pid)
