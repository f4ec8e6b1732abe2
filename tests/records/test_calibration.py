"""Calibration against a slow loop and scikit-learn, on answers whose calibration is known."""

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix

from metavision.problems.classification import BINS, Classification
from metavision.records.calibration import calibration
from metavision.types import Examples

N, Q, K = 300, 30, 4


def answers(sharpness: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (N, Q, K), made `sharpness` times as sure, and classes drawn by what they stood for before."""
    g = torch.Generator().manual_seed(0)
    logits = 1.5 * torch.randn(N, Q, K, generator=g, dtype=torch.float64)
    y = torch.multinomial(logits.softmax(-1).view(-1, K), 1, generator=g).view(N, Q)
    return sharpness * logits, y


def details(logits: torch.Tensor, y: torch.Tensor) -> dict[str, np.ndarray]:
    found = [Classification(K).details(one, Examples(one, labels)) for one, labels in zip(logits, y, strict=True)]
    return {name: torch.stack([one[name] for one in found]).numpy() for name in found[0]}


def figures(sharpness: float) -> dict[str, float]:
    found = details(*answers(sharpness))
    return calibration(found["bins"], found["brier"], np.random.default_rng(0))


def test_it_is_what_a_loop_finds() -> None:
    logits, y = answers(2.0)
    p = logits.softmax(-1).view(-1, K).numpy()
    sure, right = p.max(1), p.argmax(1) == y.view(-1).numpy()
    error = 0.0
    for low in np.arange(BINS) / BINS:
        within = (sure >= low) & (sure < low + 1 / BINS) if low + 1 / BINS < 0.999 else sure >= low
        if within.any():
            error += within.mean() * abs(sure[within].mean() - right[within].mean())
    truth = np.eye(K)[y.view(-1).numpy()]
    found = figures(2.0)
    assert found["ece"]["mean"] == pytest.approx(error, abs=1e-6)
    assert found["brier"]["mean"] == pytest.approx(((p - truth) ** 2).sum(1).mean())
    assert sum(point["share"] for point in found["reliability"]) == pytest.approx(1)


def test_the_confusion_of_a_task_is_that_of_scikit_learn() -> None:
    logits, y = answers(1.0)
    for one, labels, counts in zip(logits[:5], y[:5], details(logits[:5], y[:5])["confusion"], strict=True):
        np.testing.assert_array_equal(counts, confusion_matrix(labels, one.argmax(-1), labels=range(K)))


def test_padding_counts_for_nothing() -> None:
    logits, y = answers(1.0)
    mask = torch.arange(Q) < 20
    padded = Classification(K).details(logits[0], Examples(logits[0], y[0], mask))
    plain = Classification(K).details(logits[0, :20], Examples(logits[0, :20], y[0, :20]))
    for name, found in plain.items():
        torch.testing.assert_close(padded[name], found)


def test_true_probabilities_are_calibrated_and_sharpened_ones_are_too_sure() -> None:
    honest, sharp = figures(1.0), figures(3.0)
    assert honest["ece"]["mean"] < 0.02 < 0.1 < sharp["ece"]["mean"]
    assert honest["gap"]["half_width"] > abs(honest["gap"]["mean"]) and sharp["gap"]["mean"] > 0.1
    assert (
        honest["ece"]["low"] == 0
        and sharp["ece"]["high"] - sharp["ece"]["low"] < 0.04
        and sharp["brier"]["mean"] > honest["brier"]["mean"]
    )
    assert all(point["confidence"] > point["accuracy"] for point in sharp["reliability"][-5:])


def test_a_task_whose_logits_are_not_finite_is_left_out() -> None:
    logits, y = answers(2.0)
    plain = figures(2.0)
    spoilt = torch.cat([logits, logits[:2]])
    spoilt[N, 3, 1], spoilt[N + 1] = torch.inf, torch.nan
    found = details(spoilt, torch.cat([y, y[:2]]))
    assert calibration(found["bins"], found["brier"], np.random.default_rng(0)) == plain
    assert calibration(found["bins"][N:], found["brier"][N:], np.random.default_rng(0)) == {}


@pytest.mark.parametrize(("off", "n"), [(0.0, 100), (0.0, 600), (0.02, 600), (0.08, 100)])
def test_the_interval_of_the_error_covers_it_even_at_none(off: float, n: int) -> None:
    """Answers that are `off` less often right than they are sure; episodes are hard or easy."""
    rng = np.random.default_rng(1)
    covered, gaps = [], []
    for _ in range(120):
        p = 0.25 + 0.75 / (1 + np.exp(-rng.normal(0, 1.2, (n, 40)) - rng.normal(0, 0.5, (n, 1))))
        right = rng.random(p.shape) < np.clip(p - off, 0, 1)
        bins = np.zeros((n, BINS, 3))
        place = np.minimum((p * BINS).astype(int), BINS - 1)
        for k, part in enumerate((np.ones_like(p), p, right)):
            np.add.at(bins[:, :, k], (np.arange(n)[:, None], place), part)
        found = calibration(bins, np.zeros(n), rng)
        covered.append(found["ece"]["low"] <= off <= found["ece"]["high"])
        gaps.append(abs(found["gap"]["mean"] - off) <= found["gap"]["half_width"])
    assert np.mean(covered) >= 0.85 and np.mean(gaps) >= 0.88
