"""Transductive heads against easyfsl on the same features, with its settings."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from easyfsl import methods

from metavision import trees
from metavision.algorithms.base import Algorithm
from metavision.seeds import generator
from metavision.types import Episode, Examples, Meta
from tests.algorithms.test_pretraining import on_pixels

pytestmark = pytest.mark.usefixtures("float64")
TASKS, WAY, SHOT, QUERY, SIDE = 12, 5, 2, 15, 8


def episodes() -> list[Episode]:
    """Tasks whose classes overlap, with features that are not negative, as behind a ReLU."""
    g = generator("transductive")
    means = torch.rand(TASKS, WAY, 1, SIDE * SIDE, generator=g)

    def examples(each: int) -> Examples:
        x = (means + 0.7 * torch.randn(TASKS, WAY, each, SIDE * SIDE, generator=g)).relu()
        y = torch.arange(WAY).repeat_interleave(each).expand(TASKS, -1)
        return Examples(x.flatten(1, 2).unflatten(-1, (1, SIDE, SIDE)), y)

    tasks = Episode(examples(SHOT), examples(QUERY))
    return [trees.index(tasks, t) for t in range(TASKS)]


def agreement(algorithm: Algorithm, meta: Meta, peer: Any) -> float:
    same, right = [], []
    for task in episodes():
        head = algorithm.adapt(meta, task.support, task.query.inputs)
        ours = algorithm.predict(meta, head, task.query.inputs).argmax(1)
        peer.process_support_set(task.support.x.flatten(1), task.support.y)
        theirs = peer(task.query.x.flatten(1)).argmax(1)
        same.append(ours == theirs)
        right.append(theirs == task.query.y)
    assert 0.3 < torch.cat(right).double().mean() < 0.98, "tasks too hard or too easy to tell heads apart"
    return float(torch.cat(same).double().mean())


def test_bdcspn_is_easyfsls() -> None:
    """Which weighs by exp(cosine), and classifies the queries as they were."""
    algorithm, meta = on_pixels("bdcspn", "algo.sharpness=1", "algo.shift_queries=false")
    assert agreement(algorithm, meta, methods.BDCSPN()) >= 0.99


def test_laplacianshot_is_easyfsls() -> None:
    algorithm, meta = on_pixels("laplacianshot", "algo.sharpness=1", "algo.centre=false", "algo.unit=false")
    assert agreement(algorithm, meta, methods.LaplacianShot()) >= 0.99


EASY_TIM = [
    "algo.likeness=cosine", "algo.unit=false", "algo.temperature=10", "algo.cross_entropy=1", "algo.steps=50",
    "algo.rate=0.01",
]  # fmt: skip


def test_tim_is_easyfsls() -> None:
    """Which has cosines; at a rate that moves the weights visibly, and to the same place."""
    algorithm, meta = on_pixels("tim", *EASY_TIM)
    peer = methods.TIM(fine_tuning_lr=0.01)
    assert agreement(algorithm, meta, peer) >= 0.99
    task = episodes()[0]
    peer.process_support_set(task.support.x.flatten(1), task.support.y)
    before = peer.prototypes.clone()
    peer(task.query.x.flatten(1))
    ours = algorithm.adapt(meta, task.support, task.query.inputs)
    torch.testing.assert_close(ours, peer.prototypes.detach(), rtol=1e-5, atol=1e-7)
    assert (peer.prototypes - before).abs().max() > 0.1


def test_tims_logits_are_distances_in_the_paper() -> None:
    algorithm, meta = on_pixels("tim", "algo.steps=0")
    task = episodes()[0]
    z, zq = (F.normalize(part.x.flatten(1), dim=1) for part in task[:2])
    means = torch.stack([z[task.support.y == c].mean(0) for c in range(WAY)])
    ours = algorithm.predict(meta, algorithm.adapt(meta, task.support, task.query.inputs), task.query.inputs)
    torch.testing.assert_close(ours, -7.5 * torch.cdist(zq, means).square())


def test_ptmap_is_easyfsls() -> None:
    """Which neither centres nor scales, and takes 10 steps."""
    algorithm, meta = on_pixels("ptmap", "algo.centre_sets=false", "algo.steps=10", "algo.iterations=200")
    assert agreement(algorithm, meta, methods.PTMAP()) >= 0.99


def test_ptmap_gives_every_class_as_many_queries() -> None:
    algorithm, meta = on_pixels("ptmap")
    for task in episodes()[:5]:
        head = algorithm.adapt(meta, task.support, task.query.inputs)
        share = algorithm.predict(meta, head, task.query.inputs).softmax(1)
        np.testing.assert_allclose(share.sum(0).numpy(), QUERY, atol=0.05)


@pytest.mark.parametrize("name", ["bdcspn", "laplacianshot", "tim", "ptmap"])
def test_queries_help(name: str) -> None:
    """All are better than the nearest class mean where queries are balanced and tasks hard, as their papers say."""
    steps = ["algo.rate=0.01", "algo.steps=100"] if name == "tim" else []
    algorithm, meta = on_pixels(name, *steps)
    plain, _ = on_pixels("simpleshot", "algo.centre=false", "algo.unit=true")
    gains = []
    for task in episodes():
        ours, base = (
            a.predict(meta, a.adapt(meta, task.support, task.query.inputs), task.query.inputs).argmax(1)
            for a in (algorithm, plain)
        )
        gains.append(((ours == task.query.y).double() - (base == task.query.y).double()).mean())
    assert torch.stack(gains).mean() > 0.01
