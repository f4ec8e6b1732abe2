"""Scoring an algorithm on a fixed list of episodes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from metavision import trees
from metavision.algorithms.base import Algorithm
from metavision.data.batches import Episodes
from metavision.data.own import OwnEpisodes
from metavision.engine import ranks
from metavision.engine.embedding import Embedder, embeddable, fits
from metavision.engine.mapping import Mapper
from metavision.engine.shrinking import Shrinking
from metavision.types import Episode, Meta, P

TASKS_AT_ONCE = 32  # read from the source together; how many are mapped at once is the mapper's affair
EMBEDDED_AT_ONCE = 256  # of tasks on features, which are small
Fit = Callable[[Algorithm, Meta, Any], Mapper]  # chooses how the tasks of an evaluation are mapped


class Scores(NamedTuple):
    """Of n episodes, as float64 unless said otherwise."""

    metrics: dict[str, np.ndarray]  # loss and the problem's figures, each (n,)
    details: dict[str, np.ndarray]  # `Problem.details`, each (n, …), and the source's `classes` (n, k) int32
    autocast: bool  # whether it was under bfloat16


def evaluate(
    algorithm: Algorithm,
    meta: Meta,
    episodes: Episodes | OwnEpisodes,
    n: int,
    fit: Fit,
    progress: Callable[[int], None] | None = None,
    *,
    details: bool = False,
    embedder: Embedder | None = None,
) -> Scores:
    """Scores of episodes 0 to n - 1.

    Of several processes each scores some of them, and all return all scores.

    Where features are functions of their images and episodes use more images than the split has, the split is embedded
    once.

    Args:
        algorithm: with its test-time settings, see `Algorithm.for_evaluation`.
        meta: calibrated where the normalisation policy asks for it.
        progress: told the number of episodes done after every batch.
        details: whether to take them.
        embedder: embeds the split; one that keeps features serves several evaluations.
    """
    mapper, together = fit(algorithm, meta, episodes), TASKS_AT_ONCE
    if _pays(algorithm, episodes, n):
        assert isinstance(episodes, Episodes)
        algorithm, meta, episodes = (embedder or Embedder())(algorithm, meta, episodes, autocast=mapper.autocast)
        mapper, together = fit(algorithm, meta, episodes), EMBEDDED_AT_ONCE

    def score(params: P, episode: Episode) -> Any:
        logits, problem = algorithm.solve(Meta(params, meta.buffers), episode), algorithm.problem
        with torch.autocast(logits.device.type, enabled=False):  # counts above 256 are not whole in bfloat16
            metrics = {"loss": algorithm.loss(logits, episode.query), **problem.metrics(logits, episode.query)}
            return metrics, problem.details(logits, episode.query) if details else {}

    def scored(by: Mapper, tasks: Any) -> Any:
        return by.map(score, meta.params, tasks)

    rows, classes, shrinking = [], [], Shrinking(mapper, train=False)
    with torch.no_grad():
        # Whole batches are dealt out, not episodes, so that every task is in the company that it has in one process.
        for start in ranks.dealt(range(0, n, together)):
            indices = range(start, min(start + together, n))
            rows.append(shrinking(scored, episodes.batch(indices)))
            if details and isinstance(episodes, Episodes):
                classes.append(episodes.classes(indices))
            if progress is not None:
                progress(indices.stop)
    if ranks.count() > 1:
        rows = ranks.collected(trees.to(rows, torch.device("cpu")))
        classes = ranks.collected(classes)
    metrics, found = (
        {name: values.double().cpu().numpy() for name, values in part.items()} for part in trees.concatenate(rows)
    )
    if classes:
        found["classes"] = np.concatenate(classes).astype(np.int32)
    return Scores(metrics, found, mapper.autocast)


def _pays(algorithm: Algorithm, episodes: Episodes | OwnEpisodes, n: int) -> bool:
    """Whether embedding the split is less work than embedding the images of n episodes, and its features fit."""
    if not (embeddable(algorithm) and isinstance(episodes, Episodes) and fits(algorithm, episodes)):
        return False
    spec = episodes.spec
    return n * spec.way * (spec.shot + spec.query) > len(episodes.source)
