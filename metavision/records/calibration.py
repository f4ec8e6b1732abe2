"""How far probabilities are to be believed.

Legend: n episodes, m bins by the probability of the likeliest class.
"""

from typing import Any

import numpy as np

from metavision.records.statistics import estimate, ratio

REPLICATES, BLOCK = 1000, 100  # drawn together
BY_CHANCE = 1.2  # draws of calibrated answers are by a factor of 2 ** 0.5 above the figure; half-way to that


def calibration(bins: np.ndarray, brier: np.ndarray, generator: np.random.Generator) -> dict[str, Any]:
    """Expected calibration error, how sure answers are beyond being right, Brier score, and a reliability diagram.

    Reference:
        On Calibration of Modern Neural Networks (Guo et al., 2017), https://arxiv.org/abs/1706.04599: bins of equal
        width, weighted by how many fall into them.

    The error is a sum of absolute values: chance makes it larger than it is, and draws of episodes larger still. So its
    interval is the bootstrap's, turned around the figure, and reaches down to 0 where the draws are as far above the
    figure as they would be for answers without error. The gap, which has a sign, has the usual interval.

    Args:
        bins: (n, m, 3), see `Classification.details`.
        brier: (n,).
        generator: of the bootstrap over episodes.

    Returns:
        `ece` with `low` and `high`; `gap`: mean confidence less accuracy; `brier`; and points of the diagram. Nothing,
        where no episode has finite probabilities; others are left out.
    """
    there = finite(bins, brier)
    bins, brier = bins[there], brier[there]
    if not len(bins):
        return {}
    n = len(bins)
    flat = bins.reshape(n, -1).astype(np.float32)
    some = (generator.multinomial(n, np.full(n, 1 / n), BLOCK).astype(np.float32) for _ in range(REPLICATES // BLOCK))
    draws = np.concatenate([_error((weights @ flat).reshape(BLOCK, *bins.shape[1:])) for weights in some])
    error = float(_error(bins.sum(0)[None])[0])
    low, high = (max(0.0, 2 * error - float(np.quantile(draws, q))) for q in (0.975, 0.025))
    if draws.mean() > BY_CHANCE * error:
        low = 0.0
    count, sure, right = bins.sum(0).T
    points = [
        {"confidence": float(s / c), "accuracy": float(r / c), "share": float(c / count.sum())}
        for c, s, r in zip(count, sure, right, strict=True)
        if c
    ]
    gap = ratio((bins[..., 1] - bins[..., 2]).sum(1), bins[..., 0].sum(1), "episodes")
    return {
        "ece": {"mean": error, "low": low, "high": max(high, error), "n": n, "resampled": "episodes"},
        "gap": gap.as_dict(),
        "brier": estimate(brier, "episodes").as_dict(),
        "reliability": points,
    }


def finite(bins: np.ndarray, brier: np.ndarray) -> np.ndarray:
    """(n,): which episodes have probabilities; logits that are not finite have none, though they have a largest one."""
    return np.isfinite(bins).all((1, 2)) & np.isfinite(brier)


def _error(bins: np.ndarray) -> np.ndarray:
    """Of (b, m, 3): (b,)."""
    return np.abs(bins[..., 1] - bins[..., 2]).sum(-1) / bins[..., 0].sum(-1)
