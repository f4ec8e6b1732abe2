"""Which mapper is the fastest: measured on real tasks, and kept on disk for the next run of the same set-up."""

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from metavision.console import note
from metavision.engine import ranks
from metavision.engine.mapping import Mapper
from metavision.engine.remembered import remembered
from metavision.errors import InputError

REPAYS = 500  # outer steps: a run of fewer does not repay a measurement, which takes as long as ten to thirty
ROUNDS = 5
SECONDS = 20.0  # after which no further round begins
HOPELESS = 1.5  # times as slow as the fastest: not measured again

Clock = Callable[[], float]
Step = Callable[[Mapper], object]  # a training step by a mapper, awaited


def tuned(
    setup: Mapping[str, Any], candidates: Callable[[], Sequence[Mapper]], step: Step, clock: Clock = time.perf_counter
) -> Mapper:
    """The fastest mapper of a training step, and a line on stderr about it.

    Args:
        setup: JSON, all that the answer depends on; under it the answer is kept.
        candidates: that are compared.
        step: what is timed; its random numbers are drawn aside.
        clock: in seconds.
    """

    def measured() -> dict[str, Any]:
        started = torch.cuda.is_initialized()  # a run on a CPU does not start CUDA, nor one on a GPU the others
        with torch.random.fork_rng(devices=[torch.cuda.current_device()] if started else []):
            seconds = timed(candidates(), step, clock)
        gc.collect()  # recordings, which refer to themselves, would hold a GPU's memory on
        fastest = min(seconds, key=lambda mapper: seconds[mapper])
        figures = "; ".join(f"{mapper} {1e3 * taken:.0f} ms" for mapper, taken in seconds.items())
        return {"fastest": asdict(fastest), "figures": figures}

    fastest, figures = ranks.from_first(
        lambda: remembered(setup, measured, lambda found: (Mapper(**found["fastest"]), found["figures"]))
    )
    note(f"engine: {fastest}, as measured for this set-up (a step takes by {figures})")
    return fastest


def timed(candidates: Sequence[Mapper], step: Step, clock: Clock = time.perf_counter) -> dict[Mapper, float]:
    """Least seconds of a step by each mapper, over rounds in which they take turns, after one to warm up.

    The least, since what else runs on a machine can only add to it. One that is far behind falls out.
    """
    begun = clock()
    running = [mapper for mapper in candidates if _runs(step, mapper)]
    seconds: dict[Mapper, float] = {}
    for done in range(ROUNDS):
        if done and clock() - begun > SECONDS:
            break
        for mapper in list(running):
            before = clock()
            if _runs(step, mapper):
                seconds[mapper] = min(seconds.get(mapper, float("inf")), clock() - before)
            else:  # beside the memory that others have recorded
                running.remove(mapper)
        least = min(seconds.values(), default=0.0)
        running = [mapper for mapper in running if seconds[mapper] <= HOPELESS * least]
    if not seconds:
        before = clock()
        step(candidates[0])  # which says why, if it fails again
        seconds[candidates[0]] = clock() - before
    return seconds


def _runs(step: Step, mapper: Mapper) -> bool:
    try:
        step(mapper)
    except (RuntimeError, InputError) as error:  # memory that is not there, kernels that a device lacks, no graph
        note(f"engine: {mapper} does not run here: {str(error).partition(chr(10))[0]}")
        return False
    return True
