"""Figures about a classifier, against libraries, formulas and simulation."""

import numpy as np
import pytest
import torch

from metavision.classify import estimate
from metavision.classify.calibrating import cost, temperature
from metavision.classify.familiarity import likelihood, neighbours, typical
from metavision.classify.heads import KINDS
from metavision.classify.holding_out import HeldOut, held_out
from metavision.classify.intervals import clopper_pearson


@pytest.mark.parametrize(("right", "n"), [(0, 1), (0, 25), (7, 25), (25, 25), (300, 400)])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_interval_is_scipys(right: int, n: int, confidence: float) -> None:
    from scipy.stats import binomtest

    theirs = binomtest(right, n).proportion_ci(confidence, method="exact")
    assert clopper_pearson(right, n, confidence) == pytest.approx((theirs.low, theirs.high))


def test_the_temperature_is_the_optimum_of_a_grid() -> None:
    g = torch.Generator().manual_seed(0)
    y = torch.randint(4, (60,), generator=g)
    logits = (5 * torch.eye(4)[y] + 3 * torch.randn(60, 4, generator=g)).double()
    grid = np.geomspace(0.05, 50, 20_001)
    best = grid[np.argmin([cost(logits, y, 60, t) for t in grid])]
    assert temperature(logits, y, 60) == pytest.approx(best, rel=1e-3)


def test_the_temperature_undoes_a_scale() -> None:
    g = torch.Generator().manual_seed(0)
    y = torch.randint(3, (50,), generator=g)
    logits = (2 * torch.eye(3)[y] + torch.randn(50, 3, generator=g)).double()
    assert temperature(10 * logits, y, 50) == pytest.approx(10 * temperature(logits, y, 50), rel=1e-4)


def test_answers_that_are_all_right_are_no_certainty() -> None:
    y = torch.arange(5)
    t = temperature(100 * torch.eye(5, dtype=torch.float64), y, 5)
    p = (100 * torch.eye(5) / t).softmax(1).diagonal()
    assert p.tolist() == pytest.approx([1 - 1 / 7] * 5, abs=1e-3)


def told(answers: list[int], k: int, times: int = 1, confidence: float = 3.0) -> HeldOut:
    """Held-out answers, whatever they are about."""
    m = len(answers) // times
    return HeldOut(torch.arange(m).repeat(times), confidence * torch.eye(k, dtype=torch.float64)[answers], times, 0)


def test_accuracy_counts_every_image_once() -> None:
    y = torch.tensor([0, 0, 1, 1])
    found = estimate.accuracy(told([0, 1, 1, 1, 0, 0, 1, 0], 2, times=2), y)
    assert (found["accuracy"], found["images"]) == (0.75, 4)
    assert (found["low"], found["high"]) == clopper_pearson(3 / 1.2, 4 / 1.2)


def test_recalls_and_confusion() -> None:
    y = torch.tensor([0, 0, 1, 1, 2])
    out = told([0, 1, 1, 0, 0], 3)
    assert estimate.by_class(out, y, 3) == [0.5, 0.5, 0.0]
    pairs = {(one["a"], one["b"]): (one["a_as_b"], one["b_as_a"]) for one in estimate.confused(out, y, 3)}
    assert pairs == {(0, 1): (0.5, 0.5), (0, 2): (0.0, 1.0)}


def test_a_swapped_label_is_suspected_first() -> None:
    g = torch.Generator().manual_seed(0)
    y = torch.arange(4).repeat_interleave(6)
    x = 3 * torch.randn(4, 10, generator=g)[y] + torch.randn(24, 10, generator=g)
    wrong = y.clone()
    wrong[8] = 3
    head = KINDS["ridge"]().suited(x)
    out = held_out(head, x, wrong, 4)
    assert out is not None
    suspects = estimate.suspects(out, wrong, temperature(out.logits, wrong[out.rows], 24))
    assert (suspects[0]["row"], suspects[0]["told"]) == (8, 1)


def test_the_curve_ends_at_one_shot_less_and_rises() -> None:
    g = torch.Generator().manual_seed(0)
    y = torch.arange(5).repeat_interleave(8)
    x = torch.randn(5, 20, generator=g)[y] + 2.5 * torch.randn(40, 20, generator=g)
    points = estimate.curve(KINDS["prototypes"]().suited(x), x, y, 5)
    assert [point["shot"] for point in points] == [1, 2, 3, 4, 6, 7]
    assert points[-1]["accuracy"] > points[0]["accuracy"] + 0.1
    assert estimate.curve(KINDS["prototypes"](), x[::8], y[::8], 5) == []


def test_more_shots_follow_the_law_that_they_are_fitted_by() -> None:
    points = [{"shot": float(s), "accuracy": 0.9 - 0.4 * s**-0.5} for s in (1, 2, 3, 4)]
    assert estimate.more_shots(points, 16) == pytest.approx(0.9 - 0.1)
    falling = [{"shot": 1.0, "accuracy": 0.6}, {"shot": 2.0, "accuracy": 0.5}]
    assert estimate.more_shots(falling, 50) == 0.5
    assert estimate.more_shots(points[:1], 16) is None


@pytest.mark.parametrize("name", ["prototypes", "ridge"])
def test_the_interval_holds_the_truth_as_often_as_it_says(name: str) -> None:
    """Gaussian classes, of which the truth is known as well as one likes: 5 classes of 5, a hundred times."""
    held, estimates, truths = 0, [], []
    for draw in range(100):
        g = torch.Generator().manual_seed(draw)
        means = 0.55 * torch.randn(5, 16, generator=g)
        y, asked = torch.arange(5).repeat_interleave(5), torch.arange(5).repeat_interleave(200)
        x, new = (means[labels] + torch.randn(len(labels), 16, generator=g) for labels in (y, asked))
        head = KINDS[name]().suited(x)
        out = held_out(head, x, y, 5)
        assert out is not None
        found = estimate.accuracy(out, y)
        truth = float((head.logits(head.fit(x, y, 5), new).argmax(1) == asked).double().mean())
        held += found["low"] <= truth <= found["high"]
        estimates.append(found["accuracy"])
        truths.append(truth)
    assert held >= 90
    assert abs(np.mean(estimates) - np.mean(truths)) < 0.06  # leaving out single images is 10 to 20 points off here


def test_neighbours_and_typical_are_those_of_a_loop() -> None:
    g = torch.Generator().manual_seed(0)
    support, z = torch.randn(9, 4, generator=g) + 1, torch.randn(5, 4, generator=g) + 1
    units = [(v / v.norm()).double() for v in support]
    middle = torch.stack(units).mean(0)

    def likeness(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(torch.cosine_similarity(a - middle, b - middle, dim=0))

    cosines, nearest = neighbours(z, support, 2)
    for q, point in enumerate(z):
        order = sorted(range(9), key=lambda i: -likeness((point / point.norm()).double(), units[i]))
        assert nearest[q].tolist() == order[:2]
        assert float(cosines[q, 0]) == pytest.approx(
            likeness((point / point.norm()).double(), units[order[0]]), abs=1e-6
        )
    loop = sorted(max(likeness(units[i], units[j]) for j in range(9) if j != i) for i in range(9))
    assert typical(support).tolist() == pytest.approx(loop, abs=1e-6)


def test_at_most_the_share_that_is_allowed_is_unknown_and_strangers_are() -> None:
    g = torch.Generator().manual_seed(0)
    means = 3 * torch.randn(4, 12, generator=g)
    draw = lambda n: means[torch.arange(4).repeat_interleave(n)] + torch.randn(4 * n, 12, generator=g)  # noqa: E731
    support, known = draw(50), draw(250)
    strangers = -means.sum(0) + torch.randn(200, 12, generator=g)
    scores = typical(support)
    refused = [likelihood(neighbours(z, support, 1)[0][:, 0], scores) <= 0.05 for z in (known, strangers)]
    assert float(refused[0].double().mean()) < 0.07
    assert float(refused[1].double().mean()) > 0.9
