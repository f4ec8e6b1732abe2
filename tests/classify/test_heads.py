"""Laws that every head obeys, and what scikit-learn and slow loops say."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from metavision.algorithms.metaoptnet import MetaOptNet
from metavision.algorithms.protonet import ProtoNet
from metavision.algorithms.r2d2 import R2D2
from metavision.backbones.pixels import Pixels
from metavision.classify.heads import KINDS
from metavision.classify.heads.base import Head, Linear, balanced
from metavision.classify.heads.own import Own
from metavision.classify.holding_out import held_out, place_in_class
from metavision.classify.packing import packed, unpacked
from metavision.problems.classification import Classification

COUNTS = (3, 5, 4)  # images of three classes
N, K = sum(COUNTS), len(COUNTS)


def support(d: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features around a point for each class."""
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(K).repeat_interleave(torch.tensor(COUNTS))
    return torch.randn(K, d, generator=g)[y] + 0.7 * torch.randn(N, d, generator=g) + 1, y


def own(algorithm: type, d: int = 6) -> Own:
    made = algorithm(backbone=Pixels((d, 1, 1)), problem=Classification(2)).for_evaluation()
    return Own.of(made, made.init(torch.Generator().manual_seed(0)))


HEADS: dict[str, Callable[[], Head]] = {
    **{name: (lambda kind=kind: kind(spread=1.7)) for name, kind in KINDS.items()},
    **{f"own {kind.__name__}": (lambda kind=kind: own(kind)) for kind in (ProtoNet, R2D2, MetaOptNet)},
}
every_head = pytest.mark.parametrize("name", HEADS)
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@every_head
def test_the_order_of_the_support_is_immaterial(name: str) -> None:
    head, (x, y) = HEADS[name](), support()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    asked = support(seed=2)[0]
    plain, mixed = head.logits(head.fit(x, y, K), asked), head.logits(head.fit(x[order], y[order], K), asked)
    torch.testing.assert_close(plain, mixed, **CLOSE)


@every_head
def test_the_order_of_classes_is_immaterial(name: str) -> None:
    head, (x, y) = HEADS[name](), support()
    renamed = torch.tensor([2, 0, 1])
    asked = support(seed=2)[0]
    plain, other = head.logits(head.fit(x, y, K), asked), head.logits(head.fit(x, renamed[y], K), asked)
    torch.testing.assert_close(plain, other[:, renamed], **CLOSE)


@every_head
def test_each_query_is_answered_by_itself(name: str) -> None:
    head, (x, y) = HEADS[name](), support()
    asked = support(seed=2)[0]
    task = head.fit(x, y, K)
    alone = torch.cat([head.logits(task, one[None]) for one in asked])
    torch.testing.assert_close(head.logits(task, asked), alone, **CLOSE)


@every_head
def test_what_is_learned_survives_being_packed(name: str) -> None:
    head, (x, y) = HEADS[name](), support()
    task = head.fit(x, y, K)
    again = unpacked(*packed(task, "task"))
    assert pytree.tree_structure(again) == pytree.tree_structure(task)
    torch.testing.assert_close(head.logits(again, x), head.logits(task, x), atol=0, rtol=0)


@every_head
def test_it_learns(name: str) -> None:
    head, (x, y) = HEADS[name](), support()
    assert (head.logits(head.fit(x, y, K), x).argmax(1) == y).double().mean() > 0.7


@every_head
def test_held_out_answers_are_by_a_support_without_the_image_and_one_of_every_class(name: str) -> None:
    """By a head that keeps a record, of what it is fitted to and asked about."""
    head, (x, y) = HEADS[name](), support()
    if head.held_out(x, y, K) is not None:
        pytest.skip("has a closed form")
    fits: list[Tensor] = []

    class Watched:
        sees = False
        held_out, logits = head.held_out, staticmethod(head.logits)

        def fit(self, z: Tensor, labels: Tensor, k: int) -> object:
            fits.append(labels)
            return head.fit(z, labels, k)

    out = held_out(Watched(), x, y, K)  # type: ignore[arg-type]
    assert out is not None
    assert torch.bincount(out.rows).tolist() == [out.times] * N
    assert all((torch.bincount(left, minlength=K) >= torch.tensor(COUNTS) - 1).all() for left in fits)
    assert len(fits) == max(COUNTS) * out.times


@pytest.mark.parametrize("d", [6, 40])
def test_held_out_prototypes_are_the_mean_over_what_is_left_out_with_them(d: int) -> None:
    head, (x, y) = KINDS["prototypes"](), support(d)
    found = head.held_out(x, y, K)
    assert found is not None
    for i in range(N):
        others = [[i] if c == y[i] else (y == c).nonzero()[:, 0].tolist() for c in range(K)]
        loop = []
        for out in product(*others):
            kept = torch.ones(N, dtype=torch.bool)
            kept[list(out)] = False
            loop.append(head.logits(head.fit(x[kept], y[kept], K), x[i : i + 1]))
        torch.testing.assert_close(found[i], torch.cat(loop).mean(0), atol=1e-10, rtol=0)


@pytest.mark.parametrize("d", [6, 40])
@pytest.mark.parametrize("penalty", [0.1, 3.0])
def test_ridge_is_scikit_learns_with_balanced_weights(d: int, penalty: float) -> None:
    from sklearn.linear_model import Ridge

    x, y = support(d)
    head = replace(KINDS["ridge"]().suited(x), penalty=penalty)
    found = head.fit(x, y, K)
    theirs = Ridge(alpha=penalty).fit(head.scaled(x), np.eye(K)[y], sample_weight=balanced(y, K))
    _same(found, theirs, 1e-10)


@pytest.mark.parametrize("d", [6, 40])
@pytest.mark.parametrize("penalty", [0.1, 3.0])
def test_logistic_is_scikit_learns_with_balanced_classes(d: int, penalty: float) -> None:
    from sklearn.linear_model import LogisticRegression

    x, y = support(d)
    head = replace(KINDS["logistic"]().suited(x), penalty=penalty)
    theirs = LogisticRegression(C=penalty, class_weight="balanced", tol=1e-10, max_iter=10_000)
    _same(head.fit(x, y, K), theirs.fit(head.scaled(x), y), 1e-6)


def _same(found: Linear, theirs: object, atol: float) -> None:
    np.testing.assert_allclose(found.weight.T, theirs.coef_, atol=atol)
    bias, expected = found.bias.numpy(), theirs.intercept_
    np.testing.assert_allclose(bias - bias.mean(), expected - expected.mean(), atol=atol)


@pytest.mark.parametrize("name", KINDS)
def test_a_common_part_of_all_features_changes_no_answer_of_a_suited_head(name: str) -> None:
    """Far from zero, features of norm 1 are all alike; the spread makes up for it."""
    g = torch.Generator().manual_seed(0)
    y = torch.arange(K).repeat_interleave(20)
    x = torch.randn(K, 8, generator=g)[y] + 0.3 * torch.randn(len(y), 8, generator=g)
    far = torch.cat([x, torch.full((len(x), 1), 100.0)], 1)
    head = KINDS[name]().suited(far)
    assert (head.logits(head.fit(far, y, K), far).argmax(1) == y).double().mean() > 0.95
    z = head.scaled(far)  # type: ignore[attr-defined]
    assert float((z - z.mean(0)).square().sum(1).mean()) == pytest.approx(1)


def test_places_in_a_class_count_those_before() -> None:
    y = torch.tensor([1, 0, 1, 1, 0, 2])
    assert place_in_class(y).tolist() == [0, 0, 1, 2, 1, 0]


def test_classes_of_one_image_are_never_held_out_and_only_these() -> None:
    x, y = torch.randn(4, 3), torch.tensor([0, 1, 1, 2])
    for kind in KINDS.values():
        out = held_out(kind(), x, y, 3)
        assert out is not None and set(out.rows.tolist()) == {1, 2}
        assert held_out(kind(), x[:2], torch.tensor([0, 1]), 2) is None
