"""What one task costs, from images to answers."""

import statistics
import time
from typing import Any

import torch

from metavision import trees
from metavision.algorithms.base import Algorithm
from metavision.data.batches import Episodes
from metavision.data.own import OwnEpisodes
from metavision.engine.device import wait
from metavision.engine.footprint import Footprint
from metavision.types import Meta

TASKS = 5


def cost(
    algorithm: Algorithm, meta: Meta, episodes: Episodes | OwnEpisodes, *, autocast: bool = False
) -> dict[str, Any]:
    """Medians over the first episodes, one at a time after one to warm up: as a user with one task has it.

    Returns:
        adapt_ms: of wall time, to learn from the support.
        predict_ms: to answer all queries.
        memory: bytes of the tensors alive at once beyond weights and images, counted, so the same on every device.
    """
    tasks = [trees.index(episodes.batch([i]), 0) for i in range(min(TASKS, len(episodes)))]
    times = []
    with torch.no_grad(), torch.autocast(episodes.device.type, torch.bfloat16, enabled=autocast):
        with Footprint() as needs:
            algorithm.solve(meta, tasks[0])
        for task in tasks:
            begun = _now(episodes.device)
            adapted = algorithm.adapt(meta, task.support, algorithm.given(task))
            between = _now(episodes.device)
            algorithm.answers(meta, adapted, task.support, task.query.inputs)
            times.append((between - begun, _now(episodes.device) - between))
    adapt, predict = (1e3 * statistics.median(part) for part in zip(*times, strict=True))
    return {"adapt_ms": adapt, "predict_ms": predict, "memory": needs.peak}


def _now(device: torch.device) -> float:
    wait(device)
    return time.perf_counter()
