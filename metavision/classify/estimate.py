"""How well a classifier is likely to do, by its support alone."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from metavision.classify.heads.base import Head
from metavision.classify.holding_out import HeldOut, place_in_class
from metavision.classify.intervals import CONFIDENCE, clopper_pearson
from metavision.seeds import generator

INFLATION = 1.2  # of the variance, by what held-out answers owe to each other: see `accuracy`
SUSPECTS, PAIRS = 10, 10  # that are told of at most
DOUBT = 0.5  # times chance: a label with less is suspected
SHOTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # of the curve
WORK = 5000  # images that are classified for a point of the curve, or one pass over all


def accuracy(out: HeldOut, y: Tensor) -> dict[str, Any]:
    """The share of held-out images told right, with an interval of that of new images by the whole support.

    Clopper's and Pearson's, for n / 1.2 trials (a design effect, Survey Sampling (Kish, 1965)), since held-out answers
    are by supports that have most images in common. Found by simulation on one network and tried on another, it held
    the truth in 95 to 100 and in 90 to 100 of 100 draws, for 1.1 times the width (`benchmarks/adapt.py`). What one
    more shot brings, which the held-out answers lack, is not added.
    """
    told = out.logits.argmax(1)
    n = len(out.rows) // out.times
    right = float((told == y[out.rows]).sum()) / out.times
    low, high = clopper_pearson(right / INFLATION, n / INFLATION)
    how = "one of every class left out" if out.folds == 0 else f"{out.folds} folds"
    more = f", {out.times} times" if out.times > 1 else ""
    return {
        "accuracy": right / n,
        "low": low,
        "high": high,
        "confidence": CONFIDENCE,
        "images": n,
        "how": f"{how}{more}",
    }


def by_class(out: HeldOut, y: Tensor, k: int) -> list[float | None]:
    """The share told right of each class; None where none could be held out."""
    matrix = _confusion(out, y, k)
    total = matrix.sum(1)
    return [float(matrix[c, c] / total[c]) if total[c] else None for c in range(k)]


def confused(out: HeldOut, y: Tensor, k: int) -> list[dict[str, Any]]:
    """Pairs of classes of which one is most often taken for the other: how often each is."""
    matrix = _confusion(out, y, k)
    shares = matrix / matrix.sum(1, keepdim=True).clamp_min(1)
    both = (shares + shares.T).triu(1)
    top = both.flatten().topk(min(PAIRS, both.numel()))
    pairs = [divmod(int(place), k) for place, value in zip(top.indices, top.values, strict=True) if value > 0]
    return [{"a": a, "b": b, "a_as_b": float(shares[a, b]), "b_as_a": float(shares[b, a])} for a, b in pairs]


def _confusion(out: HeldOut, y: Tensor, k: int) -> Tensor:
    """(k, k): how often an image of a class (row) was taken for another (column)."""
    places = y[out.rows] * k + out.logits.argmax(1)
    return torch.bincount(places, minlength=k * k).view(k, k).to(torch.float64) / out.times


def suspects(out: HeldOut, y: Tensor, t: float) -> list[dict[str, Any]]:
    """Images whose label looks wrong: held out, it has less than half of a chance's probability, and another more than
    half of all. Worst first.

    Reference:
        Confident Learning: Estimating Uncertainty in Dataset Labels (Northcutt et al., 2021),
        https://arxiv.org/abs/1911.00068, of which this is the simplest form.
    """
    k = out.logits.shape[1]
    rows, where = out.rows.unique(return_inverse=True)
    p = torch.zeros(len(rows), k, dtype=torch.float64).index_add(0, where, (out.logits / t).softmax(1)) / out.times
    label, (best, told) = p.gather(1, y[rows][:, None])[:, 0], p.max(1)
    found = ((label < DOUBT / k) & (best > 0.5)).nonzero()[:, 0]
    worst = found[label[found].argsort()][:SUSPECTS]
    return [
        {"row": int(rows[i]), "probability": float(label[i]), "told": int(told[i]), "instead": float(best[i])}
        for i in worst
    ]


def curve(head: Head, x: Tensor, y: Tensor, k: int) -> list[dict[str, float]]:
    """Accuracy by shot: fits to so many images of every class, asked about the rest.

    A class with fewer gives all but one. Draws are many where images are few. Nothing where a fit trains a network.
    """
    count = torch.bincount(y, minlength=k)
    largest = int(count.max()) - 1
    if head.sees or largest < 1:
        return []
    points = []
    for shot in [s for s in SHOTS if s < largest] + [largest]:
        right = asked = 0
        for draw in range(max(1, min(20, WORK // len(y)))):
            order = torch.randperm(len(y), generator=generator("curve", shot, draw))
            place = torch.empty_like(y)
            place[order] = place_in_class(y[order])
            fitted = place < (count - 1).clamp(1, shot)[y]
            told = head.logits(head.fit(x[fitted], y[fitted], k), x[~fitted]).argmax(1)
            right, asked = right + int((told == y[~fitted]).sum()), asked + int((~fitted).sum())
        points.append({"shot": shot, "accuracy": right / asked})
    return points


def more_shots(points: list[dict[str, float]], shot: int) -> float | None:
    """What `shot` images a class would likely bring, beyond the last point of the curve, by a - b / sqrt(shot).

    Least squares on the points, weighted by how far apart they are measured; the last point is kept. None from one
    point.
    """
    if len(points) < 2:
        return None
    shots = np.array([point["shot"] for point in points])
    found = np.array([point["accuracy"] for point in points])
    slope = np.polyfit(shots**-POWER, found, 1)[0]
    return float(min(1.0, found[-1] + min(slope, 0.0) * (shot**-POWER - shots[-1] ** -POWER)))


POWER = 0.5  # of the shot; of 0.5, 0.75 and 1 the one with the least error on Conv4's features
