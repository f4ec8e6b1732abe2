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
from metavision.engine import ranks
from metavision.engine.cost import cost
from metavision.engine.embedding import Embedder
from metavision.engine.evaluate import Fit, evaluate
from metavision.records.details import detailed
from metavision.records.statistics import estimate
from metavision.types import Meta

# What is kept of each episode, as small as its numbers allow.
KEPT = {"confusion": np.uint16, "bins": np.float32, "brier": np.float32, "classes": np.int32}


@dataclass(frozen=True)
class Contender:
    """Something that is scored on the episodes.

    Args:
        algorithm: with its test-time settings.
        meta: calibrated.
    """

    algorithm: Algorithm
    meta: Meta


def test(
    trained: Contender,
    references: Mapping[str, Contender],
    episodes: Episodes | OwnEpisodes,
    n: int,
    fit: Fit,
    progress: Callable[[str, int], None],
    *,
    embedder: Embedder | None = None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Scores `trained` and `references` on episodes 0 to n - 1.

    An inner-loop method is scored before adaptation as well: with labels in random order it must be at chance.

    Returns:
        The result as JSON: the problem's metric as an estimate, `before_adaptation`, and for every reference its metric
        and the paired `difference`; and by episode the metric of each contender, (n,), and the details of `trained`.
    """
    contenders = {"trained": trained, **references}
    if (unadapted := trained.algorithm.before_adaptation()) is not None:
        contenders["before_adaptation"] = Contender(unadapted, trained.meta)
    metric = trained.algorithm.problem.metric
    scores = {
        name: evaluate(
            *(c.algorithm, c.meta, episodes, n, fit, partial(progress, name)),
            details=name == "trained",
            embedder=embedder,
        )
        for name, c in contenders.items()
    }
    values = {name: found.metrics[metric] for name, found in scores.items()}
    arrays = {name: found.astype(KEPT[name]) for name, found in scores["trained"].details.items()}
    estimates = {name: estimate(found, "episodes") for name, found in values.items()}
    spec, source = episodes.spec, episodes.source
    result = {
        "metric": metric,
        metric: estimates["trained"].as_dict(),
        **detailed(values["trained"], arrays, alike=_alike(episodes)),
        "episodes": {"way": spec.way, "shot": spec.shot, "query": spec.query, "n": n, "seed": episodes.seed},
        "composition": spec.varied,
        "replacement": episodes.replacement,
        "classes": _novelty(source),
        "data": source.name,
        "split": source.split,
        "split_hash": source.fingerprint,
        "episodes_hash": f"{episodes.key:016x}",
        "chance": _chance(trained.algorithm.problem.chance, arrays),
        "normalisation": trained.algorithm.backbone.norm,
        "transductive": trained.algorithm.transductive,
        "references": {
            name: {
                metric: estimates[name].as_dict(),
                "difference": estimate(values["trained"] - values[name], "episodes, paired").as_dict(),
            }
            for name in references
        },
        "cost": ranks.from_first(
            lambda: cost(trained.algorithm, trained.meta, episodes, autocast=scores["trained"].autocast)
        ),
    }
    if unadapted is not None:
        result["before_adaptation"] = estimates["before_adaptation"].as_dict()
    arrays["loss"] = scores["trained"].metrics["loss"]
    if "classes" in arrays:
        arrays["names"] = np.array(source.classes)
    return result, {**values, **arrays}


def _chance(of_all: float | None, arrays: Mapping[str, np.ndarray]) -> float | None:
    """The accuracy of a guess, over episodes whose number of classes may vary."""
    if of_all is None or "classes" not in arrays:
        return of_all
    return float((1 / (arrays["classes"] >= 0).sum(1)).mean())


def _alike(episodes: Episodes | OwnEpisodes) -> bool:
    """Whether any set of classes is as likely, as an interval over classes takes it."""
    return isinstance(episodes, Episodes) and episodes.spec.hierarchy == "any" and not episodes.source.mixed


def _novelty(source: Source | OwnSource) -> str:
    if source.shared:
        return "the same as in training, with other images"
    if isinstance(source, Source) and source.known:
        return "in part the same as in training, with other images"
    return "new" if source.classes else "not known to be new: tasks are drawn anew"
