"""metavision in Python."""

from pathlib import Path

import torch

from metavision import build
from metavision.algorithms.base import Algorithm
from metavision.engine import checkpoint
from metavision.types import Meta


def load(run: str | Path) -> tuple[Algorithm, Meta]:
    """The algorithm and the learned weights of a run.

    Args:
        run: a run's folder (its selected checkpoint) or a checkpoint.

    Returns:
        The algorithm with its test-time settings, and what it learned, on the CPU.

    Raises:
        InputError: there is no such run, or its checkpoint is damaged or does not fit its configuration.

    >>> algorithm, meta = metavision.load("outputs/protonet-glyphs-1a2b3c4d/seed0")  # doctest: +SKIP
    >>> task = algorithm.adapt(meta, support)  # doctest: +SKIP
    >>> logits = algorithm.predict(meta, task, query)  # doctest: +SKIP
    """
    path = checkpoint.find(Path(run))
    found = checkpoint.read(path)
    config = found.about["config"]
    algorithm = build.algorithm(config, found.about["shape"], config["episode"]["way"]).for_evaluation()
    checkpoint.fits(algorithm.init(torch.Generator()).params, found.meta.params, path)
    return algorithm, found.meta
