"""Who watches training: the metrics file first, then the tracker, then the person at the terminal."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from metavision.console import note, stderr
from metavision.records.run import Run
from metavision.records.statistics import figure
from metavision.tracking.base import Notice, Tracker
from metavision.tracking.none import Nothing

TICK = 1e-9  # seconds, the least that a clock is taken to have gone on


class Recorder:
    """Observes training: writes every row, hands it to the tracker, and shows a bar (plain lines off a terminal).

    Args:
        run: whose metrics are written.
        tracker: gets a copy.
        steps: of the whole run, for the bar.
        metric: of the problem, which is shown.
        memory: bytes at the peak so far, which are written.
    """

    def __init__(self, run: Run, tracker: Tracker, steps: int, metric: str, memory: Callable[[], int]) -> None:
        self.run, self.tracker, self.steps, self.metric, self.memory = run, tracker, steps, metric, memory
        self.progress = Progress(
            TextColumn("{task.description:<11}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=stderr,
            disable=not stderr.is_terminal,
        )
        self.bars: dict[str, Any] = {}
        self.starter = ThreadPoolExecutor(1, "tracker")
        self.starting: Future[Notice] | None = None
        self.begun = self.last = time.perf_counter()

    def open(self, config: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
        """Before training."""
        # Beside the first validation: a tracker may import much, and wait for a server.
        self.starting = self.starter.submit(self.tracker.start, self.run.folder, self.run.name, config, provenance)
        self.progress.start()

    def close(self, result: Mapping[str, Any], checkpoint: Path | None) -> None:
        """After the test, or after whatever ended the run."""
        self.progress.stop()
        self._await_tracker()
        self.starter.shutdown()
        self._tell(self._tracked(lambda: self.tracker.finish(result, checkpoint)))

    def started(self, step: int) -> None:
        self.begun = self.last = time.perf_counter()
        if step:
            note(f"going on from step {step}")
        self._bar("train", self.steps, step)

    def stepped(self, step: int) -> None:
        self._bar("train", self.steps, step)

    def logged(self, row: dict[str, Any], tasks: int) -> None:
        now = time.perf_counter()
        timing: dict[str, float] = {}
        if tasks:
            rate = tasks / max(now - self.last, TICK)
            timing = {"seconds": now - self.begun, "tasks_per_second": rate, "peak_memory": self.memory()}
        self.last = now
        row = {**row, "timing": timing}
        self.run.append(row)
        self._await_tracker()
        self._tell(self._tracked(lambda: self.tracker.log(row)))
        self._show(row)

    def tested(self, name: str, done: int, n: int) -> None:
        """`done` of n test episodes are scored for a contender."""
        self._bar(f"test {name}" if name != "trained" else "test", n, done)

    def _show(self, row: Mapping[str, Any]) -> None:
        metric = self.metric
        figures = f"loss {row['loss']:.3f}  {metric} {figure(row[metric], metric)}"
        if row["split"] == "val":
            note(f"step {row['step']:>6}  validation  {figures} ± {figure(row[f'{metric}_half_width'], metric)}")
            return
        figures += f"  {row['timing']['tasks_per_second']:.1f} tasks/s"
        if self.progress.disable:
            note(f"step {row['step']:>6}  train       {figures}")
        self._bar("train", self.steps, row["step"], figures)

    def _bar(self, name: str, total: int, done: int, figures: str | None = None) -> None:
        if name not in self.bars:
            self.bars[name] = self.progress.add_task(name, total=total, figures="")
        self.progress.update(self.bars[name], completed=done)
        if figures is not None:
            self.progress.update(self.bars[name], figures=figures)

    def _await_tracker(self) -> None:
        if self.starting:
            starting, self.starting = self.starting, None
            self._tell(self._tracked(starting.result))

    def _tracked(self, work: Callable[[], Notice]) -> Notice:
        """What a tracker says; one that fails, against its contract, is done without: the file is the truth."""
        try:
            return work()
        except Exception as error:  # of other people's programs
            self.tracker = Nothing()
            return f"the dashboard gets no more of this run ({type(error).__name__}: {error}); metrics.jsonl has it all"

    def _tell(self, notice: Notice) -> None:
        if notice:
            note(notice)
