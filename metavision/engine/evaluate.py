"""Scoring an algorithm on a fixed list of episodes."""

from collections.abc import Callable

import numpy as np
import torch

from metavision.algorithms.base import Algorithm
from metavision.data.batches import Episodes
from metavision.data.own import OwnEpisodes
from metavision.engine.mapping import Mapper
from metavision.trees import concatenate
from metavision.types import Episode, Meta, Metrics, P

TASKS_AT_ONCE = 32  # read from the source together; how many are mapped at once is the mapper's affair


def evaluate(
    algorithm: Algorithm,
    meta: Meta,
    episodes: Episodes | OwnEpisodes,
    n: int,
    mapper: Mapper,
    progress: Callable[[int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Loss and metrics of episodes 0 to n - 1, each as (n,) float64.

    Args:
        algorithm: with its test-time settings, see `Algorithm.for_evaluation`.
        meta: calibrated where the normalisation policy asks for it.
        progress: told the number of episodes done after every batch.
    """

    def score(params: P, episode: Episode) -> Metrics:
        loss, metrics = algorithm.score(Meta(params, meta.buffers), episode)
        return {"loss": loss, **metrics}

    rows: list[Metrics] = []
    with torch.no_grad():
        for start in range(0, n, TASKS_AT_ONCE):
            indices = range(start, min(start + TASKS_AT_ONCE, n))
            rows.append(mapper.map(score, meta.params, episodes.batch(indices)))
            if progress:
                progress(indices.stop)
    return {name: values.double().cpu().numpy() for name, values in concatenate(rows).items()}
