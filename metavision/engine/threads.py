"""How many threads of the CPU a run takes: as many as pay, as measured."""

import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from metavision import trees
from metavision.console import note
from metavision.cores import cores
from metavision.engine import ranks
from metavision.engine.device import THREADS
from metavision.engine.remembered import remembered
from metavision.engine.train import Plan
from metavision.engine.tuning import REPAYS
from metavision.records.provenance import code

ROUNDS = 3
SECONDS = 10.0  # of a comparison, after which no further round begins
GAIN = 0.9  # of the time: those that gain less are left to others
SETTINGS = ("algo", "backbone", "norm", "engine", "clip")  # that a step's time depends on, beside its shapes


def chosen(plan: Plan) -> int:
    """Threads for a run on a CPU: the fastest, measured now or in an earlier run of the same kind; torch's own number
    where a run is too short to repay it.
    """
    most = available()
    if ranks.count() > 1:  # which work at the same time, and what one measures is the others' doing
        return most
    if most == 1 or plan.steps < REPAYS or not plan.meta.params:
        return most
    tasks = plan.train.batch(range(min(plan.meta_batch, plan.train_mapper.chunk)))  # time is in proportion to chunks

    def measured() -> dict[str, Any]:
        with torch.random.fork_rng(devices=[]):
            seconds = fastest(lambda: plan.meta_grad(plan.meta, tasks, 0), most)
        figures = ", ".join(f"{n}: {1e3 * seconds[n]:.0f} ms" for n in sorted(seconds))
        return {"threads": next(iter(seconds)), "figures": figures}

    key = {
        "of": "threads",
        "machine": [platform.node(), most],
        "versions": [code(), torch.__version__],
        "settings": {name: plan.about["config"][name] for name in SETTINGS},
        "mapper": str(plan.train_mapper),
        "shapes": [list(tensor.shape) for tensor in [*trees.tensors(tasks), *plan.meta.params.values()]],
    }
    number, figures = remembered(key, measured, lambda found: (int(found["threads"]), found["figures"]))
    note(f"threads: {number} of {most}, as measured on part of a step ({figures})")
    return number


def available() -> int:
    """Cores for this process, at most as many as torch's own count, which `OMP_NUM_THREADS` sets."""
    return min(THREADS, cores())


def fastest(step: Callable[[], object], most: int, clock: Callable[[], float] = time.perf_counter) -> dict[int, float]:
    """Seconds of a step by 1, 2, 4, … threads, `most` at last, as far as twice as many pay; the last that paid first.

    Two numbers take turns, since other work on the machine comes and goes; where it leaves no core free, two threads
    that wait for each other take many times as long as one. torch's number is left as it was.

    Args:
        step: what is timed.
        most: threads, 2 at least.
        clock: in seconds.
    """
    before, seconds, best, more = torch.get_num_threads(), dict[int, float](), 1, 2
    try:
        while more > best:
            seconds |= _compared(step, (best, more), clock)
            if seconds[more] >= GAIN * seconds[best]:
                break
            best, more = more, min(2 * more, most)
    finally:
        torch.set_num_threads(before)
    return {best: seconds[best], **seconds}


def _compared(step: Callable[[], object], numbers: tuple[int, int], clock: Callable[[], float]) -> dict[int, float]:
    """The median time of a step by each number of threads, after one to warm up."""
    taken: dict[int, list[float]] = {threads: [] for threads in numbers}
    begun = clock()
    for done in range(1 + ROUNDS):
        if done > 1 and clock() - begun > SECONDS:
            break
        for threads in numbers:
            torch.set_num_threads(threads)
            at = clock()
            step()
            if done:
                taken[threads].append(clock() - at)
    return {threads: statistics.median(times) for threads, times in taken.items()}
