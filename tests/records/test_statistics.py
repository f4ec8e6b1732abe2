"""Intervals against scipy and by simulation."""

import numpy as np
from scipy import stats

from metavision.records.selection import Best
from metavision.records.statistics import Estimate, estimate, figure


def test_it_is_the_t_interval() -> None:
    values = np.random.default_rng(0).normal(size=30)
    low, high = stats.t.interval(0.95, 29, loc=values.mean(), scale=stats.sem(values))
    e = estimate(values, "episodes")
    np.testing.assert_allclose([e.mean - e.half_width, e.mean + e.half_width], [low, high])


def test_it_covers_the_truth_in_95_of_100() -> None:
    draws = np.random.default_rng(1).binomial(15, 0.8, (4000, 100)) / 15
    found = [estimate(row, "episodes") for row in draws]
    covered = np.mean([abs(e.mean - 0.8) <= e.half_width for e in found])
    assert 0.93 <= covered <= 0.97


def test_one_value_has_no_interval() -> None:
    assert np.isnan(estimate(np.ones(1), "episodes").half_width)


def test_what_is_not_finite_is_not_known() -> None:
    for unknown in (float("nan"), float("inf"), None):  # a record has null in its place
        assert figure(unknown, "accuracy", signed=True) == "not known"
        assert Estimate(unknown, unknown, 5, "episodes").text("mse") == "not known"  # type: ignore[arg-type]
    assert Estimate(0.5, float("nan"), 1, "episodes").text("accuracy") == "50.00 ± not known %"


def test_best_keeps_the_first_of_equals() -> None:
    best = Best()
    for step, value in enumerate([0.2, 0.5, 0.5, 0.4]):
        best = best.seen(step, value)
    assert (best.step, best.value, best.stale) == (1, 0.5, 2)
