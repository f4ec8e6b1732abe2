"""Intervals of a share."""

CONFIDENCE = 0.95


def clopper_pearson(right: float, n: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The interval of a share of which `right` of n trials tell: it holds the share at least as often as it says.

    Reference:
        The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial (Clopper and Pearson, 1934).

    Its form by quantiles of beta distributions takes numbers that are not whole, too.
    """
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    low = float(betaincinv(right, n - right + 1, tail)) if right > 0 else 0.0
    high = float(betaincinv(right + 1, n - right, 1 - tail)) if right < n else 1.0
    return low, high
