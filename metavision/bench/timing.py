"""Fair timing: contenders take turns, so that a drifting machine is fair to all."""

import statistics
import time
from collections.abc import Callable, Mapping

Clock = Callable[[], float]


def interleaved(
    contenders: Mapping[str, Callable[[], object]], rounds: int, clock: Clock = time.process_time
) -> dict[str, float]:
    """Median seconds of a call of each contender over rounds in which each is called once, after one to warm up."""
    for work in contenders.values():
        work()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, work in contenders.items():
            begun = clock()
            work()
            seconds[name].append(clock() - begun)
    return {name: statistics.median(values) for name, values in seconds.items()}
