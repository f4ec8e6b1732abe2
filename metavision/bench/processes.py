"""Contenders in processes of their own, which take turns: allocator, threads and peak memory are each one's own."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import metavision
from metavision.bench.contenders import What
from metavision.bench.work import Work
from metavision.engine.mapping import Mapper
from metavision.errors import MetavisionError

PATIENCE = 5  # seconds until a process that has nothing more to do is ended


class ContenderFailed(MetavisionError):
    """A contender's process ended, or said why it could not go on."""


@dataclass(frozen=True)
class Job:
    """What a contender's process does.

    Args:
        contender: its name.
        work: what is done.
        what: `train` or `adapt`.
        tasks: at a time.
        device: where it is done.
        threads: of the CPU.
        door: whether the process begins as `metavision train` does, which sets how it waits and keeps memory.
        mapper: of ours; chosen elsewhere, so that no trial at full size is in the process before memory is measured.
    """

    contender: str
    work: Work
    what: What
    tasks: int
    device: str
    threads: int
    door: bool
    mapper: Mapper

    def written(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Self:
        given = json.loads(text)
        return cls(**{**given, "work": Work(**given["work"]), "mapper": Mapper(**given["mapper"])})


class Process:
    """A contender's process: it does what it is asked through a pipe, and ends when that is closed.

    So it ends with this process, however that ends.
    """

    def __init__(self, job: Job) -> None:
        self.name = job.contender
        self.said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `end`
        self.process = subprocess.Popen(
            [sys.executable, "-m", "metavision.bench.child", job.written()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            text=True,
            env=environment(os.environ),
        )

    def ask(self, question: str) -> dict[str, Any]:
        """Its answer.

        Raises:
            ContenderFailed: it has none.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(f"{question}\n")
            self.process.stdin.flush()
        except OSError:  # it has ended; what it said last is still to be read
            pass
        line = self.process.stdout.readline()
        if not line:
            self.said.seek(0)
            last = self.said.read().strip().splitlines()[-1:] or ["without a word"]
            raise ContenderFailed(f"{self.name} ended with exit code {self.process.wait()}: {last[0]}")
        answer = json.loads(line)
        if "error" in answer:
            raise ContenderFailed(f"{self.name} failed: {answer['error']}")
        return answer

    def end(self) -> None:
        """Ends the process and waits for it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.close()
            self.process.wait(PATIENCE)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.said.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """Ours for a contender: torch's own defaults of waiting and of memory, and this very package.

    What `metavision` sets for itself, it sets in the process (`Job.door`).
    """
    ours = ("OMP_WAIT_POLICY", "GLIBC_TUNABLES", "MALLOC_")
    kept = {key: value for key, value in given.items() if not key.startswith(ours)}
    here = str(Path(metavision.__file__).parent.parent)
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, (here, given.get("PYTHONPATH"))))}
