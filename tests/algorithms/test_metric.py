"""Metric heads against their formulas, written as loops, and against libraries."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import cosine_similarity

from metavision import trees
from metavision.problems.classification import Classification
from metavision.seeds import generator
from metavision.types import Examples
from tests.algorithms.builds import built
from tests.conftest import toy_tasks

pytestmark = pytest.mark.usefixtures("float64")


def solved(
    name: str, *overrides: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, torch.Tensor]]:
    """Logits of an algorithm, and features of support and query, and labels of the support."""
    algorithm, episode = built(name, "norm=none", *overrides), trees.index(toy_tasks(way=3, shot=2), 0)
    meta = algorithm.init(generator("metric"))
    logits = algorithm.predict(meta, algorithm.adapt(meta, episode.support), episode.query.inputs)
    support, query = (algorithm.embed(meta.params, {}, part.inputs).numpy() for part in episode[:2])
    return logits.numpy(), support, query, episode.support.y.numpy(), meta.params


def test_a_cosine_prototype_is_a_mean_direction() -> None:
    logits, support, query, y, _ = solved("protonet_cosine", "algo.scale=3")
    means = np.stack([support[y == c].mean(0) for c in range(3)])
    np.testing.assert_allclose(logits, 3 * cosine_similarity(query, means), rtol=1e-9)


@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_matching_is_attention_over_the_support(scale: float) -> None:
    logits, support, query, y, _ = solved("matchingnet", f"algo.scale={scale}")
    attention = np.exp(scale * cosine_similarity(query, support))
    attention /= attention.sum(1, keepdims=True)
    expected = np.stack([attention[:, y == c].sum(1) for c in range(3)], axis=1)
    np.testing.assert_allclose(np.exp(logits), expected, rtol=1e-9)


@pytest.mark.parametrize("penalty", [0.1, 5.0])
def test_r2d2_is_scaled_ridge_regression(penalty: float) -> None:
    logits, support, query, y, params = solved("r2d2", f"algo.penalty={penalty}", "algo.scale=4")
    fit = Ridge(alpha=penalty, fit_intercept=False, solver="svd").fit(support, np.eye(3)[y])
    np.testing.assert_allclose(logits, 4 * fit.predict(query), rtol=1e-7, atol=1e-9)
    assert float(params["solver.log_penalty"]) == pytest.approx(np.log(penalty))


def test_smoothed_labels_pass_over_absent_classes() -> None:
    """As if these were no classes at all."""
    problem, few = Classification(5), Classification(3)
    logits, y = torch.randn(7, 3, generator=generator("smooth")), torch.arange(7) % 3
    more = torch.cat([logits, torch.full((7, 2), -torch.inf)], 1)
    expected = F.cross_entropy(logits, y, label_smoothing=0.1)
    for made, out in ((few, logits), (problem, more)):
        torch.testing.assert_close(made.loss(out, Examples(torch.empty(7), y), 0.1), expected)
