"""metavision in Python."""

from pathlib import Path
from typing import NamedTuple

import torch

from metavision import build
from metavision.algorithms.base import Algorithm
from metavision.data.scaling import Scaling
from metavision.engine import checkpoint
from metavision.types import Meta


class Loaded(NamedTuple):
    """What a run learned, on the CPU."""

    algorithm: Algorithm  # with its test-time settings
    meta: Meta
    scaling: Scaling  # makes of bytes (n, C, H, W) what the network was trained on


def load(run: str | Path) -> Loaded:
    """The algorithm and the learned weights of a run.

    Args:
        run: a run's folder (its selected checkpoint) or a checkpoint.

    Raises:
        InputError: there is no such run, or its checkpoint is damaged or does not fit its configuration.

    >>> algorithm, meta, scaling = metavision.load("outputs/protonet-glyphs-1a2b3c4d/seed0")  # doctest: +SKIP
    >>> task = algorithm.adapt(meta, Examples(scaling(images), labels))  # doctest: +SKIP
    >>> logits = algorithm.predict(meta, task, Inputs(scaling(others)))  # doctest: +SKIP
    """
    path = checkpoint.find(Path(run))
    found = checkpoint.read(path)
    config = build.unloaded(found.about)
    about = found.about
    algorithm = build.algorithm(config, about["shape"], config["episode"]["way"], about["classes"])
    algorithm = algorithm.for_evaluation()
    checkpoint.fits(algorithm.init(torch.Generator()).params, found.meta.params, path)
    return Loaded(algorithm, found.meta, build.scaling_of(found.about))
