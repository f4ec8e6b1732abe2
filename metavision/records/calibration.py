"""How far probabilities are to be believed.

Legend: n episodes, m bins by the probability of the likeliest class.
"""

from typing import Any

import numpy as np

from metavision.records.statistics import estimate, interval

REPLICATES = 1000


def calibration(bins: np.ndarray, brier: np.ndarray, generator: np.random.Generator) -> dict[str, Any]:
    """Expected calibration error, Brier score, and the points of a reliability diagram.

    Reference:
        On Calibration of Modern Neural Networks (Guo et al., 2017), https://arxiv.org/abs/1706.04599: bins of equal
        width, weighted by how many fall into them.

    Args:
        bins: (n, m, 3), see `Classification.details`.
        brier: (n,).
        generator: of the bootstrap over episodes. The error is a sum of absolute values, so that draws of episodes
            make it larger than it is; the interval is of the bootstrap's deviation around the figure itself.
    """
    n = len(bins)
    flat = bins.reshape(n, -1)
    weights = generator.multinomial(n, np.full(n, 1 / n), REPLICATES).astype(np.float32)
    draws = _error((weights @ flat.astype(np.float32)).reshape(REPLICATES, *bins.shape[1:]))
    count, sure, right = bins.sum(0).T
    with np.errstate(invalid="ignore"):
        points = [
            {"confidence": float(s / c), "accuracy": float(r / c), "share": float(c / count.sum())}
            for c, s, r in zip(count, sure, right, strict=True)
            if c
        ]
    ece = interval(float(_error(bins.sum(0)[None])[0]), float(np.std(draws, ddof=1)), n - 1, n, "episodes")
    return {"ece": ece.as_dict(), "brier": estimate(brier, "episodes").as_dict(), "reliability": points}


def _error(bins: np.ndarray) -> np.ndarray:
    """Of (b, m, 3): (b,)."""
    return np.abs(bins[..., 1] - bins[..., 2]).sum(-1) / bins[..., 0].sum(-1)
