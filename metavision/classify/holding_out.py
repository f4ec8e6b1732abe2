"""Answers about images of the support by a classifier that did not see them."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from metavision.classify.heads.base import Head
from metavision.console import progress_bar
from metavision.seeds import generator

FOLDS, FOLDS_OF_IMAGES = 10, 5  # at most; and where a fit trains a network, so that all cost as much as four fits
FOLDS_OF_CHOICES = 3  # where a fit tries several trainings
TIMES, FEW = 5, 500  # how often the folds are dealt out anew where images are few


Advance = Callable[[int], None]


class HeldOut(NamedTuple):
    """Answers about the images of the support that can be held out: not about one that is alone in its class.

    Args:
        rows: (m,) which image each answer is about; every one occurs `times` times.
        logits: (m, k).
        times: how often each was asked about.
        folds: how many parts the support was in; 0: a closed form was used.
    """

    rows: Tensor
    logits: Tensor
    times: int
    folds: int


def held_out(
    head: Head, x: Tensor, y: Tensor, k: int, folds: int | None = None, *, shown: bool = False
) -> HeldOut | None:
    """By leaving out one image of every class at a time, or a tenth of a larger class; None where all are alone.

    Not by leaving out a single image: its class is then left with fewer images than the others, so that its mean is
    farther off and its share smaller, and answers lean away from it. By prototypes on a Conv4, that told 21 % right of
    what is in truth 48 % with 2 images a class, and 49 of 56 % with 5; leaving out one of every class told 46 and 55 %
    (`benchmarks/adapt.py`).

    Args:
        head: any.
        x: features (n, d), or images of a head that sees them.
        y: labels (n,); their order within a class decides which images are left out together.
        k: classes.
        folds: at most; None: 10, 5 where a fit trains a network, 3 where it tries several trainings. A closed form has
            none.
        shown: with a bar of progress.
    """
    count = torch.bincount(y, minlength=k)
    rows = (count[y] > 1).nonzero()[:, 0]
    if not len(rows):
        return None
    if (closed := head.held_out(x, y, k)) is not None:
        return HeldOut(rows, closed[rows], 1, 0)
    parts = min(int(count.max()), folds or _folds(head))
    times = TIMES if len(y) <= FEW and not head.sees else 1
    bar = progress_bar("holding out", parts * times, "folds") if shown else nullcontext(lambda _: None)
    with bar as advance:
        found = [_once(head, x, y, k, rows, parts, time, advance) for time in range(times)]
    return HeldOut(rows.repeat(times), torch.cat(found), times, parts)


def _folds(head: Head) -> int:
    return FOLDS if not head.sees else FOLDS_OF_CHOICES if head.chooses else FOLDS_OF_IMAGES


def _once(head: Head, x: Tensor, y: Tensor, k: int, rows: Tensor, folds: int, time: int, advance: Advance) -> Tensor:
    """Logits (len(rows), k) by folds that are dealt out at random."""
    order = torch.randperm(len(y), generator=generator("held out", time))
    fold = torch.empty_like(y)
    fold[order] = place_in_class(y[order]) % folds
    logits = torch.empty(len(rows), k, dtype=torch.float64)
    for f in range(folds):
        out = fold[rows] == f
        if out.any():
            kept = torch.ones(len(y), dtype=torch.bool)
            kept[rows[out]] = False
            logits[out] = head.logits(head.fit(x[kept], y[kept], k), x[rows[out]])
        advance(1)
    return logits


def place_in_class(y: Tensor) -> Tensor:
    """(n,): how many of the same class come before each of y (n,)."""
    order = y.argsort(stable=True)
    count = torch.bincount(y)
    place = torch.empty_like(y)
    place[order] = torch.arange(len(y)) - (count.cumsum(0) - count)[y[order]]
    return place
