"""Times the ways to map a meta-gradient over tasks, on the work of `metavision bench train`: in turns, by the clock.

Prints for every work, and by each mapping, the milliseconds that a task takes; a word of a work's name chooses some.
"""

import sys
import time
from functools import partial

from metavision.cli import process  # noqa: F401 - before torch

# isort: split

import torch

from metavision.bench.timing import interleaved
from metavision.bench.work import TRAIN
from metavision.engine import device
from metavision.engine.mapping import Mapper

ROUNDS, TASKS = 5, 8
LOOPS = [Mapper(), Mapper(channels_last=True, explicit=True)]
TOGETHER = [Mapper("vmap", chunk, explicit=explicit) for explicit in (False, True) for chunk in (2, 4, 8)]


def main() -> None:
    place = device.resolve("auto")
    device.configure("fp32", deterministic=False, threads=None)
    print(f"{device.name(place)}, {torch.get_num_threads()} threads, torch {torch.__version__}, {TASKS} tasks")
    mappers = [*LOOPS, *TOGETHER, *([Mapper("graph", TASKS)] if place.type == "cuda" else [])]
    for work in TRAIN:
        if not all(word in work.name for word in sys.argv[1:]):
            continue
        algorithm, meta = work.algorithm(), work.start(place, torch.float32)
        tasks = work.tasks(TASKS, place, torch.float32)

        def step(mapper: Mapper) -> None:
            mapper.meta_grad(algorithm, meta, tasks)  # noqa: B023 - called before the next work
            device.wait(place)

        taken = interleaved({str(mapper): partial(step, mapper) for mapper in mappers}, ROUNDS, time.perf_counter)
        print(work.name, *(f"  {1e3 * seconds / TASKS:8.1f} ms  {name}" for name, seconds in taken.items()), sep="\n")


if __name__ == "__main__":
    main()
