"""Intervals that say what was resampled. One meaning of +-: the half-width of a 95 % interval."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Args:
        mean: of the values.
        half_width: mean +- half_width is the 95 % t-interval; nan for a single value.
        n: how many values.
        resampled: what the interval is over: another draw of these would move the mean so much.
    """

    mean: float
    half_width: float
    n: int
    resampled: str

    def text(self, metric: str) -> str:
        """As people read it: accuracies in percent, others as they are."""
        return f"{figure(self.mean, metric)} ± {figure(self.half_width, metric)}{' %' * (metric == 'accuracy')}"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def figure(value: float, metric: str, *, signed: bool = False) -> str:
    """A number of a metric, without its unit: accuracies in percent."""
    sign = "+" if signed else ""
    return format(100 * value, f"{sign}.2f") if metric == "accuracy" else format(value, f"{sign}.4f")


def estimate(values: np.ndarray, resampled: str) -> Estimate:
    """Mean and t-interval of values (n,): mean +- t_{.975, n-1} s / sqrt(n)."""
    n = len(values)
    if n < 2:
        return Estimate(float(np.mean(values)), float("nan"), n, resampled)
    t = float(stdtrit(n - 1, (1 + LEVEL) / 2))
    return Estimate(float(np.mean(values)), t * float(np.std(values, ddof=1)) / n**0.5, n, resampled)
