"""What is trained by batches, and its heads: against torch's optimizers, scikit-learn and the papers' formulas."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid

from metavision import build, trees
from metavision.algorithms.base import Algorithm
from metavision.engine.mapping import Mapper
from metavision.seeds import generator
from metavision.types import Episode, Examples, Inputs, Meta
from tests.algorithms.builds import CLASSES, built, composed, food
from tests.conftest import toy_tasks

pytestmark = pytest.mark.usefixtures("float64")


def on_pixels(name: str, *overrides: str, way: int = 5, classes: int = CLASSES) -> tuple[Algorithm, Meta]:
    """The algorithm with pixels as features."""
    algorithm = build.algorithm(composed(f"algo={name}", "backbone=pixels", *overrides), (1, 8, 8), way, classes)
    return algorithm, algorithm.init(generator("pixels"))


def episode(shot: int = 3, way: int = 5) -> Episode:
    return trees.index(toy_tasks(tasks=1, way=way, shot=shot, query=10, size=8), 0)


def logits(algorithm: Algorithm, meta: Meta, task: Episode) -> torch.Tensor:
    return algorithm.predict(meta, algorithm.adapt(meta, task.support, task.query.inputs), task.query.inputs)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_pre_training_is_ordinary_classification(smoothing: float) -> None:
    algorithm = built("simpleshot", f"algo.smoothing={smoothing}")
    batches = food(algorithm, toy_tasks(tasks=2))
    meta = algorithm.init(generator("pre"))
    ours, logs = algorithm.meta_grad(meta, batches, Mapper("loop"))
    leaves = {name: p.clone().requires_grad_() for name, p in meta.params.items()}
    losses = []
    for x, y in zip(batches.x, batches.y, strict=True):
        z = torch.func.functional_call(algorithm.backbone, trees.select(leaves, "backbone"), (x,))
        out = F.linear(z, leaves["classifier.weight"], leaves["classifier.bias"])
        losses.append(F.cross_entropy(out, y, label_smoothing=smoothing))
    loss = torch.stack(losses).mean()
    loss.backward()
    torch.testing.assert_close(logs["loss"], loss.detach())
    for name, leaf in leaves.items():
        torch.testing.assert_close(ours[name], leaf.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["baseline", "baselinepp"])
def test_baselines_head_is_trained_as_by_torch(name: str) -> None:
    algorithm, meta = on_pixels(name, "algo.steps=7", "algo.rate=0.3", "algo.decay=0.1")
    task = episode()
    z, zq = task.support.x.flatten(1), task.query.x.flatten(1)
    means = torch.stack([z[task.support.y == c].mean(0) for c in range(5)])
    cosines = name == "baselinepp"
    weight = (means if cosines else torch.zeros_like(means)).clone().requires_grad_()
    bias = torch.zeros(5, requires_grad=True)

    def out(z: torch.Tensor) -> torch.Tensor:
        if cosines:
            return 2 * F.normalize(z, dim=1) @ F.normalize(weight, dim=1).T
        return F.linear(z, weight, bias)

    optimizer = torch.optim.SGD([weight, bias], lr=0.3, momentum=0.9, dampening=0.9, weight_decay=0.1)
    for _ in range(7):
        optimizer.zero_grad()
        F.cross_entropy(out(z), task.support.y).backward()
        optimizer.step()
    torch.testing.assert_close(logits(algorithm, meta, task), out(zq).detach(), rtol=1e-9, atol=1e-11)


def test_baselinepp_trains_by_cosines() -> None:
    algorithm = built("baselinepp", "algo.scale=3")
    batch = trees.index(food(algorithm, toy_tasks(tasks=1)), 0)
    meta = algorithm.init(generator("pp"))
    z = algorithm.embed(meta.params, {}, batch.inputs)
    expected = F.cross_entropy(
        3 * F.normalize(z, dim=1) @ F.normalize(meta.params["classifier.weight"], dim=1).T, batch.y
    )
    torch.testing.assert_close(algorithm.score_batch(meta, batch)[0], expected)


@pytest.mark.parametrize("penalty", [0.5, 10.0])
def test_rfs_is_scikit_learns_regression_on_unit_features(penalty: float) -> None:
    algorithm, meta = on_pixels("rfs", f"algo.penalty={penalty}")
    task = episode()
    z, zq = (F.normalize(part.x.flatten(1), dim=1).numpy() for part in task[:2])
    peer = LogisticRegression(C=penalty, tol=1e-12, max_iter=100_000).fit(z, task.support.y.numpy())
    ours = logits(algorithm, meta, task).softmax(1).numpy()
    np.testing.assert_allclose(ours, peer.predict_proba(zq), atol=1e-6)


def test_self_distillation_mixes_labels_with_what_the_teacher_says() -> None:
    plain = built("rfs", "algo.smoothing=0")
    batch = trees.index(food(plain, toy_tasks(tasks=1)), 0)
    meta, other = (plain.init(generator("generation", i)) for i in range(2))
    teacher = plain.calibrate(other, batch.x)
    student = type(plain)(
        backbone=plain.backbone, problem=plain.problem, classes=CLASSES, unit=True,
        teacher=lambda: teacher, likeness=0.3, temperature=2.0,
    )  # fmt: skip
    said = plain.classify(teacher.params, plain.embed(teacher.params, teacher.buffers, batch.inputs))
    ours = plain.classify(meta.params, plain.embed(meta.params, {}, batch.inputs))
    p, q = (said / 2).softmax(1), (ours / 2).softmax(1)
    apart = (p * (p.log() - q.log())).sum(1).mean() * 4
    expected = 0.7 * F.cross_entropy(ours, batch.y) + 0.3 * apart
    torch.testing.assert_close(student.score_batch(meta, batch)[0], expected)


def test_simpleshot_is_the_nearest_centroid_of_centred_unit_features() -> None:
    algorithm, meta = on_pixels("simpleshot")
    task, pool = episode(), torch.rand(300, 1, 8, 8)
    meta = algorithm.calibrate(meta, pool)
    z, zq = (F.normalize(part.x.flatten(1) - pool.flatten(1).mean(0), dim=1).numpy() for part in task[:2])
    peer = NearestCentroid().fit(z, task.support.y.numpy())
    np.testing.assert_array_equal(logits(algorithm, meta, task).argmax(1).numpy(), peer.predict(zq))
    uncentred, _ = on_pixels("simpleshot", "algo.centre=false")
    assert "centre" not in uncentred.calibrate(meta._replace(buffers={}), pool).buffers


def test_meta_baselines_scale_is_learned() -> None:
    algorithm, meta = on_pixels("metabaseline", "algo.scale=7")
    task = episode()
    cosines, _ = on_pixels("protonet_cosine", "algo.scale=1")
    torch.testing.assert_close(logits(algorithm, meta, task), 7 * logits(cosines, meta, task))
    grads, _ = algorithm.meta_grad(meta, trees.stack([task]), Mapper("loop"))
    assert grads["scale"].abs() > 0


@pytest.mark.parametrize("learns_from", ["query", "unlabelled"])
def test_soft_k_means_written_as_loops(learns_from: str) -> None:
    algorithm, meta = on_pixels("softkmeans", f"algo.learns_from={learns_from}", "algo.steps=2", way=3)
    assert algorithm.uses_queries == (learns_from == "query")
    task = episode(way=3)
    more = task.query.inputs if algorithm.uses_queries else Inputs(torch.rand(6, 1, 8, 8))
    z, u = task.support.x.flatten(1).numpy(), more.x.flatten(1).numpy()
    y = task.support.y.numpy()
    means = np.stack([z[y == c].mean(0) for c in range(3)])
    for _ in range(2):
        share = np.exp(-((u[:, None] - means) ** 2).sum(-1))
        share /= share.sum(1, keepdims=True)
        means = np.stack(
            [
                (z[y == c].sum(0) + (share[:, c, None] * u).sum(0)) / ((y == c).sum() + share[:, c].sum())
                for c in range(3)
            ]
        )
    np.testing.assert_allclose(algorithm.adapt(meta, task.support, more).numpy(), means, rtol=1e-9)
    given = Episode(task.support, task.query, more)
    loss, _ = algorithm.score(meta, given)
    out = -((task.query.x.flatten(1).numpy()[:, None] - means) ** 2).sum(-1)
    torch.testing.assert_close(loss, F.cross_entropy(torch.from_numpy(out), task.query.y))


def test_batches_keep_labels_of_training_classes() -> None:
    """A label beyond the episode's way is a training class like any other."""
    algorithm: Any = built("rfs", way=2)
    batch = Examples(torch.rand(3, 1, 16, 16), torch.tensor([0, 3, 2]))
    loss, _ = algorithm.score_batch(algorithm.init(generator("labels")), batch)
    assert loss.isfinite()
