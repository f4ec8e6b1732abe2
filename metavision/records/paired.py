"""Two things scored on the same episodes: how far apart they are, and whether chance would do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri, stdtr

from metavision.records.statistics import LEVEL, Estimate, estimate, spread

FLIPS = 10_000
FEW = 10  # flips that went as far, below which their number says little
BLOCK = 500  # flips made together
RESOLVED = 0.005  # half a point of accuracy


@dataclass(frozen=True)
class Difference:
    """The first less the second.

    Args:
        estimate: in pairs.
        p: how often chance alone would part them as far, two-sided.
        correlation: of the two over episodes: what pairing them brought; nan where one never varies.
        needed: episodes at which the half-width would be half a point; nan where the interval is over seeds.
    """

    estimate: Estimate
    p: float
    correlation: float
    needed: float

    def as_dict(self) -> dict[str, Any]:
        return {"estimate": self.estimate.as_dict(), **{k: getattr(self, k) for k in ("p", "correlation", "needed")}}


def difference(a: np.ndarray, b: np.ndarray, generator: np.random.Generator) -> Difference:
    """Of two groups of networks on the same episodes, see `differences`."""
    return differences([(a, b)], generator)[0]


def differences(pairs: Sequence[tuple[np.ndarray, np.ndarray]], generator: np.random.Generator) -> list[Difference]:
    """Of pairs of groups of networks, each pair on the same episodes: (seeds, n) and (seeds, n).

    With two seeds or more on both sides, it is about the ways to train, over seeds and episodes; otherwise about these
    very networks, over episodes, with the p-value of a sign-flip test: under the null the sign of each episode's
    difference is a coin's (Fisher, The Design of Experiments, 1935).
    """
    found: list[Difference | None] = [None] * len(pairs)
    alone: dict[int, list[int]] = {}
    for i, (a, b) in enumerate(pairs):
        if min(len(a), len(b)) > 1:
            e = spread([a, b], [1.0, -1.0])
            found[i] = Difference(e, _p_of(e), _correlation(a, b), float("nan"))
        else:
            alone.setdefault(a.shape[1], []).append(i)
    for places in alone.values():
        d = np.stack([pairs[i][0].mean(0) - pairs[i][1].mean(0) for i in places])
        for i, row, p in zip(places, d, sign_flip(d, generator), strict=True):
            e = estimate(row, "episodes, paired")
            needed = float((ndtri((1 + LEVEL) / 2) * np.std(row, ddof=1) / RESOLVED) ** 2)
            found[i] = Difference(e, float(p), _correlation(*pairs[i]), needed)
    return [one for one in found if one is not None]


def sign_flip(d: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Two-sided p-values of the means of d (m, n), by flips of signs at random; the data's own is one of them.

    Beyond what so many flips can tell, p is that of t; it is 1 where a difference is not finite.
    """
    seen, n = np.abs(d.sum(1)), d.shape[1]
    slack = 1e-6 * np.abs(d).sum(1)  # of float32
    as_far = np.zeros(len(d))
    for start in range(0, FLIPS, BLOCK):
        size = min(BLOCK, FLIPS - start)
        bits = np.unpackbits(generator.integers(0, 256, (size, -(-n // 8)), np.uint8), axis=1, count=n)
        sums = (2 * bits.astype(np.float32) - 1) @ d.T.astype(np.float32)
        as_far += (np.abs(sums) >= seen - slack).sum(0)
    by_flips = (1 + as_far) / (1 + FLIPS)
    p = np.where(as_far < FEW, np.minimum(by_flips, _by_t(d)), by_flips)
    return np.where(np.isfinite(seen), p, 1.0)


def _by_t(d: np.ndarray) -> np.ndarray:
    """Of t, for tails that flips are too few to reach, which matters where many pairs are corrected for."""
    n = d.shape[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        t = np.abs(d.mean(1)) / (d.std(1, ddof=1) / n**0.5)
    return np.where(np.isnan(t), 1.0, 2 * stdtr(n - 1, -t))


def holm(p: Sequence[float]) -> list[float]:
    """p-values of a family of tests, made so large that any below 5 % may be believed: all of them at 5 % together.

    Reference:
        A Simple Sequentially Rejective Multiple Test Procedure (Holm, 1979).
    """
    order = np.argsort(p)
    adjusted = np.maximum.accumulate([(len(p) - i) * p[j] for i, j in enumerate(order)])
    out = np.empty(len(p))
    out[order] = np.minimum(adjusted, 1)
    return [float(x) for x in out]


def verdict(found: Difference, p: float, least: float = 0.0) -> str:
    """`better`, `worse`, or `not distinguished`.

    Args:
        found: where more is better.
        p: corrected for how many pairs are looked at.
        least: the smallest difference that is called one.
    """
    mean, width = found.estimate.mean, found.estimate.half_width
    if p < 1 - LEVEL and abs(mean) > width and abs(mean) >= least:
        return "better" if mean > 0 else "worse"
    return "not distinguished"


def _p_of(e: Estimate) -> float:
    """Of an estimate over seeds, by its own t distribution."""
    from scipy.stats import t

    if not e.half_width > 0:
        return 0.0 if abs(e.mean) > 0 else 1.0
    return float(2 * t.sf(abs(e.mean) / e.error, e.freedom))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    x, y = a.mean(0), b.mean(0)
    if not (x.std() and y.std()):
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])
