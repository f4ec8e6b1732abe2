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
    assert sharp["ece"]["half_width"] < 0.02 and sharp["brier"]["mean"] > honest["brier"]["mean"]
    assert all(point["confidence"] > point["accuracy"] for point in sharp["reliability"][-5:])
