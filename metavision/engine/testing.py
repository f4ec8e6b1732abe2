"""The result of a run: its accuracy beside that of references, on the same episodes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from metavision.algorithms.base import Algorithm
from metavision.data.batches import Episodes
from metavision.data.own import OwnEpisodes, OwnSource
from metavision.data.source import Source
from metavision.engine.evaluate import evaluate
from metavision.engine.mapping import Mapper
from metavision.records.statistics import estimate
from metavision.types import Meta


@dataclass(frozen=True)
class Contender:
    """Something that is scored on the episodes.

    Args:
        algorithm: with its test-time settings.
        meta: calibrated.
        mapper: maps over tasks.
    """

    algorithm: Algorithm
    meta: Meta
    mapper: Mapper


def test(
    trained: Contender,
    references: Mapping[str, Contender],
    episodes: Episodes | OwnEpisodes,
    n: int,
    progress: Callable[[str, int], None],
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Scores `trained` and `references` on episodes 0 to n - 1.

    An inner-loop method is scored before adaptation as well: with labels in random order it must be at chance.

    Returns:
        The result as JSON: the problem's metric as an estimate, `before_adaptation`, and for every reference its metric
        and the paired `difference`; and the metric of every episode, (n,) by contender.
    """
    contenders = {"trained": trained, **references}
    if (unadapted := trained.algorithm.before_adaptation()) is not None:
        contenders["before_adaptation"] = Contender(unadapted, trained.meta, trained.mapper)
    metric = trained.algorithm.problem.metric
    accuracy = {
        name: evaluate(c.algorithm, c.meta, episodes, n, c.mapper, partial(progress, name))[metric]
        for name, c in contenders.items()
    }
    estimates = {name: estimate(values, "episodes") for name, values in accuracy.items()}
    spec, source = episodes.spec, episodes.source
    result = {
        "metric": metric,
        metric: estimates["trained"].as_dict(),
        "episodes": {"way": spec.way, "shot": spec.shot, "query": spec.query, "n": n, "seed": episodes.seed},
        "composition": spec.varied,
        "replacement": episodes.replacement,
        "classes": _novelty(source),
        "data": source.name,
        "split": source.split,
        "split_hash": source.fingerprint,
        "episodes_hash": f"{episodes.key:016x}",
        "chance": trained.algorithm.problem.chance,
        "normalisation": trained.algorithm.backbone.norm,
        "transductive": trained.algorithm.transductive,
        "references": {
            name: {
                metric: estimates[name].as_dict(),
                "difference": estimate(accuracy["trained"] - accuracy[name], "episodes, paired").as_dict(),
            }
            for name in references
        },
    }
    if unadapted is not None:
        result["before_adaptation"] = estimates["before_adaptation"].as_dict()
    return result, accuracy


def _novelty(source: Source | OwnSource) -> str:
    if source.shared:
        return "the same as in training, with other images"
    return "new" if source.classes else "not known to be new: tasks are drawn anew"
