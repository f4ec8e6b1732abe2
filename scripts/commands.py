"""Commands that get a limit of time, and how far the run stands that one of them trains.

Needs nothing but Python itself, as `gpu.py`.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
METRICS = "*/seed*/metrics.jsonl"


@dataclass(frozen=True)
class Report:
    """What came of a command.

    Args:
        name: of the part, or of the experiment.
        rc: exit code; negative: the signal that ended it.
        seconds: that it took.
        cut: whether it was told to end, since its time was over.
        found: its figures.
    """

    name: str
    rc: int
    seconds: float
    cut: bool
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Also where it was cut off behind a test that failed."""
        wrong = self.found.get("failures", 0) + self.found.get("errors", 0)
        return (self.rc != 0 and not self.cut) or wrong > 0


def call(
    name: str, command: Sequence[str], seconds: float, *, log: Path, env: Mapping[str, str], grace: float
) -> Report:
    """Runs a command, and interrupts it as Ctrl-C does when its time is over.

    Args:
        name: of what it does, for messages.
        command: its words.
        seconds: that it may take.
        log: where its output goes.
        env: its environment.
        grace: seconds that it has to end in after it was told to, before it is killed.
    """
    print(f"{name}: at most {max(seconds, 0):.0f} s", flush=True)
    begun, cut = time.monotonic(), False
    with log.open("w") as file:
        file.write(f"$ {' '.join(command)}\n")
        file.flush()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=dict(env),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # What a shell starts in the background ignores SIGINT, and its children with it.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
        )
        try:
            process.wait(max(seconds, 0))
        except subprocess.TimeoutExpired:
            cut = True
        finally:
            _end(process, grace)
    report = Report(name, process.returncode, round(time.monotonic() - begun, 1), cut)
    print(f"{name}: exit code {report.rc} after {report.seconds} s{', cut off' * cut}", flush=True)
    return report


def _end(process: subprocess.Popen[bytes], grace: float) -> None:
    """Ends a command and what it has started: first by SIGINT, upon which a run can be gone on with."""
    for number in (signal.SIGINT, signal.SIGKILL):
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(grace)
    with suppress(ProcessLookupError):  # children that outlived it
        os.killpg(process.pid, signal.SIGKILL)


def rows(outputs: Path) -> set[str]:
    """What the runs below a folder have logged, line by line: to be told from what a command adds."""
    return {line for metrics in outputs.glob(METRICS) for line in metrics.read_text().splitlines()}


def progress(outputs: Path, before: Collection[str] = ()) -> dict[str, Any]:
    """Where the run below a folder stands, and when it would be done at the pace of the last command that was in it.

    Of several, such as seeds, the run that was written to last.

    Validations are counted in; the time before the first row, in which kernels are chosen, is not.

    Args:
        outputs: the folder.
        before: `rows` of it when that command began, since seconds are counted anew by every command.
    """
    for metrics in sorted(outputs.glob(METRICS), key=lambda path: -path.stat().st_mtime):
        folder, step, timed = metrics.parent, 0, []
        for line in metrics.read_text().splitlines():
            with suppress(json.JSONDecodeError):  # a line that a kill cut short
                row = json.loads(line)
                if row["timing"]:
                    step = row["step"]
                    timed += [] if line in before else [(step, row["timing"]["seconds"])]
        steps = _steps(folder)
        found: dict[str, Any] = {"step": step, "steps": steps}
        if timed and (measured := step - timed[0][0]):
            pace = (timed[-1][1] - timed[0][1]) / measured
            found |= {"measured_steps": measured, "ms_a_step": round(1000 * pace, 3)}
            found |= {"projected_minutes": round(steps * pace / 60, 2)}
            found |= {"minutes_to_the_end": round((steps - found["step"]) * pace / 60, 2)}
        if (folder / "DONE").is_file():
            result = json.loads((folder / "result.json").read_text())
            found["result"] = result[result.get("metric", "accuracy")]
        return found
    return {}


def _steps(folder: Path) -> int:
    """`budget.steps` of a run's config.yaml, which is read without PyYAML."""
    lines = (folder / "config.yaml").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines[lines.index("budget:") :] if line.startswith("  steps:"))
