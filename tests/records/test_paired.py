"""Comparison in pairs, against scipy and statsmodels' formulas, and by simulation of its level and power."""

import numpy as np
import pytest
from scipy import stats

from metavision.records.paired import difference, holm, sign_flip, verdict
from metavision.records.statistics import estimate, over_seeds


def episodes(rng: np.random.Generator, n: int, apart: float, *, correlated: float = 0.8, sd: float = 0.1) -> np.ndarray:
    """Two runs (2, n) whose accuracies share the episodes' difficulty, the first better by `apart`."""
    shared = rng.normal(size=n) * correlated**0.5
    own = rng.normal(size=(2, n)) * (1 - correlated) ** 0.5
    return 0.7 + sd * (shared + own) + np.array([[apart], [0.0]])


def test_signs_flipped_at_random_are_close_to_all_flips() -> None:
    d = np.random.default_rng(0).normal(0.3, 1, 12)
    every = 2 * ((np.arange(2**12)[:, None] >> np.arange(12)) & 1) - 1
    exact = np.mean(np.abs(every @ d) >= abs(d.sum()) - 1e-12)
    assert sign_flip(d[None], np.random.default_rng(1)) == pytest.approx(exact, abs=0.02)


def test_ties_count_as_far() -> None:
    """Accuracies are fractions of few queries, so that many sums are equal but for rounding."""
    d = np.random.default_rng(5).integers(-3, 5, 12) / 75
    every = 2 * ((np.arange(2**12)[:, None] >> np.arange(12)) & 1) - 1
    whole = np.rint(75 * d)
    exact = np.mean(np.abs(every @ whole) >= abs(whole.sum()))
    assert sign_flip(d[None], np.random.default_rng(1))[0] == pytest.approx(exact, abs=0.015)


def test_far_in_the_tail_it_is_the_p_of_t() -> None:
    """Else no pair of a sweep of forty runs could be told apart: 780 times the least p of flips is above 5 %."""
    d = np.random.default_rng(0).normal(0.7, 1, (1, 200))
    assert sign_flip(d, np.random.default_rng(1))[0] == pytest.approx(stats.ttest_1samp(d[0], 0).pvalue)
    weak = np.random.default_rng(2).normal(0.15, 1, (200, 200))
    by_t = stats.ttest_1samp(weak, 0, axis=1).pvalue
    np.testing.assert_allclose(sign_flip(weak, np.random.default_rng(3)), by_t, atol=0.02)


def test_equal_runs_are_not_told_apart() -> None:
    a = np.random.default_rng(0).normal(size=(1, 50))
    found = difference(a, a, np.random.default_rng(1))
    assert (found.estimate.mean, found.estimate.half_width, found.p) == (0, 0, 1)
    assert verdict(found, found.p) == "not distinguished"


@pytest.mark.parametrize("seeds", [1, 2])
def test_where_an_episode_has_no_finite_figure_nothing_is_told_apart(seeds: int) -> None:
    a, b = np.random.default_rng(0).normal([[[1.0]], [[0.0]]], 1, (2, seeds, 50))
    a[0, 7] = np.nan
    found = difference(a, b, np.random.default_rng(1))
    assert found.p == 1 and verdict(found, found.p) == "not distinguished"


def test_the_test_holds_its_level() -> None:
    rng = np.random.default_rng(2)
    d = np.stack([a - b for a, b in (episodes(rng, 100, 0.0) for _ in range(4000))])
    rejected = np.mean(sign_flip(d, rng) < 0.05)
    assert abs(rejected - 0.05) < 3 * (0.05 * 0.95 / 4000) ** 0.5


@pytest.mark.parametrize("n", [200, 400])
def test_a_point_is_found_with_the_power_that_theory_gives(n: int) -> None:
    rng = np.random.default_rng(3)
    error = 0.1 * (2 * 0.2 / n) ** 0.5  # of the mean difference, at a correlation of 0.8
    theory = stats.norm.sf(1.96 - 0.01 / error)
    d = np.stack([a - b for a, b in (episodes(rng, n, 0.01) for _ in range(2000))])
    by_flips = np.mean(sign_flip(d, rng) < 0.05)
    by_interval = np.mean([abs(e.mean) > e.half_width for e in (estimate(row, "") for row in d)])
    assert 0.3 < theory < 0.98
    assert by_flips == pytest.approx(theory, abs=0.035) and by_interval == pytest.approx(theory, abs=0.035)


def test_needed_episodes_are_those_at_which_half_a_point_is_resolved() -> None:
    a, b = episodes(np.random.default_rng(4), 5000, 0.0)
    found = difference(a[None], b[None], np.random.default_rng(0))
    n = round(found.needed)
    assert 1.96 * np.std(a - b, ddof=1) / n**0.5 == pytest.approx(0.005, rel=0.01)
    assert found.correlation == pytest.approx(0.8, abs=0.02)


def test_holm_is_as_written() -> None:
    """The example of every textbook: four tests, adjusted in order, never falling, never above 1."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def seeds(rng: np.random.Generator, runs: int, n: int, apart: float = 0.0) -> np.ndarray:
    """(2, runs, n): two ways to train, whose networks differ by seed; all share the episodes."""
    shared = 0.06 * rng.normal(size=n)
    trained = 0.01 * rng.normal(size=(2, runs, 1))
    return 0.7 + shared + trained + 0.05 * rng.normal(size=(2, runs, n)) + np.array([apart, 0.0])[:, None, None]


@pytest.mark.parametrize("runs", [2, 3, 5])
def test_over_seeds_the_interval_covers_and_the_test_holds_its_level(runs: int) -> None:
    rng = np.random.default_rng(5)
    both = [seeds(rng, runs, 60) for _ in range(1500)]
    single = [over_seeds(a) for a, _ in both]
    assert 0.93 <= np.mean([abs(e.mean - 0.7) <= e.half_width for e in single]) <= 0.975
    found = [difference(a, b, rng) for a, b in both]
    assert 0.93 <= np.mean([abs(f.estimate.mean) <= f.estimate.half_width for f in found]) <= 0.98
    for f in found[:100]:
        assert (f.p < 0.05) is bool(abs(f.estimate.mean) > f.estimate.half_width)
    # What is said of the networks alone says too little of the ways to train them.
    alone = [estimate(a.mean(0) - b.mean(0), "") for a, b in both]
    assert np.mean([abs(e.mean) <= e.half_width for e in alone]) < 0.9
