"""Evaluating otherwise than trained: other normalisation, other numbers of steps."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from metavision.algorithms.maml import MAML
from metavision.engine.testing import Contender
from metavision.errors import InputError

OF_MOMENTS = ("batch", "running", "support", "each")  # of one kind of layer, by whose moments it takes


def under(policy: str, trained: Contender, images: Callable[[], Tensor]) -> Contender:
    """The same weights under another policy.

    Args:
        policy: one of `OF_MOMENTS`, see `metavision.nn.normalisation`.
        trained: as it was trained.
        images: gives training images (n, C, H, W), which statistics are calibrated on.

    Raises:
        InputError: the network's layers have no moments, the method has no adapted weights to take them by, or wants
            all queries together.
    """
    norm = trained.algorithm.backbone.norm
    if norm not in OF_MOMENTS:
        raise InputError(f"norm={policy} needs a network that was trained with batch or running; this one has {norm}")
    if policy == "support" and not isinstance(trained.algorithm, MAML):
        raise InputError(
            f"norm=support is for methods with an inner loop, as maml, not for {type(trained.algorithm).__name__}; "
            "norm=running makes that inductive"
        )
    if policy == "each" and trained.algorithm.uses_queries:
        raise InputError(f"norm=each has queries apart, and {type(trained.algorithm).__name__} learns from all of them")
    algorithm = trained.algorithm.normalised(policy)
    meta = trained.meta.without_statistics()
    anew = policy == "running" or meta.buffers  # which may be means of features that the policy changes
    return Contender(algorithm, algorithm.calibrate(meta, images()) if anew else meta)


def inductive(trained: Contender) -> Contender:
    """The same with queries that do not see each other.

    Raises:
        InputError: they did not, as it was.
    """
    if trained.algorithm.backbone.norm != "batch" or trained.algorithm.uses_queries:
        raise InputError(
            f"inductive=true is for methods that are transductive by norm=batch alone; this run has "
            f"norm={trained.algorithm.backbone.norm}{' and learns from queries' * trained.algorithm.uses_queries}"
        )
    return under("support", trained, Tensor)


def with_steps(options: Mapping[str, Any], steps: int | None) -> dict[str, Any]:
    """The options of an algorithm with another number of steps of adaptation.

    Raises:
        InputError: it takes none.
    """
    if steps is None:
        return dict(options)
    name = next((key for key in ("test_steps", "steps") if key in options), None)
    if name is None:
        known = [key for key in options if not key.startswith("_")]
        raise InputError(
            f"steps={steps} is for algorithms that adapt by steps; this one has {', '.join(known) or 'no options'}"
        )
    return {**options, name: steps}
