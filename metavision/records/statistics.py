"""Intervals that say what was resampled. One meaning of +-: the half-width of a 95 % interval."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

LEVEL = 0.95
UNKNOWN = "not known"


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Args:
        mean: of the values.
        half_width: mean +- half_width is the 95 % t-interval; nan for a single value.
        n: how many values.
        resampled: what the interval is over: another draw of these would move the mean so much.
        freedom: degrees of freedom of t; nan where it is not known.
    """

    mean: float
    half_width: float
    n: int
    resampled: str
    freedom: float = float("nan")

    @property
    def error(self) -> float:
        """The standard error."""
        return self.half_width / float(stdtrit(self.freedom, (1 + LEVEL) / 2))

    def text(self, metric: str) -> str:
        """As people read it: accuracies in percent, others as they are."""
        if not known(self.mean):
            return UNKNOWN
        return f"{figure(self.mean, metric)} ± {figure(self.half_width, metric)}{' %' * (metric == 'accuracy')}"

    def as_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "freedom"}


def known(value: float | None) -> bool:
    """Whether there is a number: one that is not finite is null in a record."""
    return value is not None and math.isfinite(value)


def figure(value: float | None, metric: str, *, signed: bool = False) -> str:
    """A number of a metric, without its unit: accuracies in percent."""
    if value is None or not known(value):
        return UNKNOWN
    sign = "+" if signed else ""
    return format(100 * value, f"{sign}.2f") if metric == "accuracy" else format(value, f"{sign}.4f")


def estimate(values: np.ndarray, resampled: str) -> Estimate:
    """Mean and t-interval of values (n,): mean +- t_{.975, n-1} s / sqrt(n)."""
    n = len(values)
    with np.errstate(invalid="ignore"):  # an infinite value leaves no interval, and no warning
        error = float(np.std(values, ddof=1)) / n**0.5 if n > 1 else float("nan")
    return interval(float(np.mean(values)), error, n - 1, n, resampled)


def ratio(above: np.ndarray, below: np.ndarray, resampled: str) -> Estimate:
    """sum(above) / sum(below) with the interval of its linearisation, for figures such as a recall over episodes.

    The ratio's error is near that of the mean of (above - ratio below) / mean(below): Sampling Techniques (Cochran,
    1977), 6.3.

    Args:
        above: (n,) of each thing that is resampled, such as the right answers of each episode.
        below: (n,) likewise, such as the questions.
        resampled: what those are.
    """
    n, total = len(above), float(below.sum())
    mean = float(above.sum()) / total if total else float("nan")
    rest = (above - mean * below) * n / total if total else np.full(n, np.nan)
    return interval(mean, float(np.std(rest, ddof=1)) / n**0.5 if n > 1 else float("nan"), n - 1, n, resampled)


def interval(mean: float, error: float, freedom: float, n: int, resampled: str) -> Estimate:
    """The t-interval of a mean from its standard error and degrees of freedom."""
    t = float(stdtrit(freedom, (1 + LEVEL) / 2)) if freedom > 0 else float("nan")
    return Estimate(mean, t * error, n, resampled, freedom)


def over_seeds(values: np.ndarray) -> Estimate:
    """The mean of a training method, from what each of its trained networks had on the same episodes.

    Two things would be others in another experiment: the training seeds and the episodes. Their variances, that of the
    networks' means and that of the episodes' means, are added, with degrees of freedom after Welch and Satterthwaite.

    Args:
        values: (seeds, n) of every network on every episode; two seeds at least.
    """
    return spread([values], [1.0])


def spread(groups: list[np.ndarray], signs: list[float]) -> Estimate:
    """The signed sum of the means of groups (seeds, n) that share their episodes, over training seeds and episodes."""
    means = [g.mean(1) for g in groups]
    terms = [(float(np.var(m, ddof=1)) / len(m), len(m) - 1) for m in means]
    together = np.sum([sign * g.mean(0) for sign, g in zip(signs, groups, strict=True)], axis=0)
    if len(together) > 1:
        terms.append((float(np.var(together, ddof=1)) / len(together), len(together) - 1))
    variance = sum(v for v, _ in terms)
    below = sum(v**2 / freedom for v, freedom in terms)
    n = min(len(g) for g in groups)
    return interval(
        float(together.mean()),
        variance**0.5,
        variance**2 / below if below else np.inf,
        n,
        "seeds and episodes",
    )
