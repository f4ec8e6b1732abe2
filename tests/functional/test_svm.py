"""The multi-class support vector machine against liblinear's, and its slope."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.svm import LinearSVC
from torch.func import vmap

from metavision.functional.svm import crammer_singer
from metavision.seeds import generator

pytestmark = pytest.mark.usefixtures("float64")


def problem(n: int, k: int, d: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = generator("svm", seed)
    y = torch.arange(n) % k
    return torch.randn(k, d, generator=g)[y] + 0.8 * torch.randn(n, d, generator=g), y


def objective(weights: np.ndarray, z: np.ndarray, y: np.ndarray, penalty: float) -> float:
    """The primal: half the squared norm, and each example's worst violated margin."""
    scores = z @ weights
    margin = 1 - np.eye(weights.shape[1])[y] + scores - scores[np.arange(len(y)), y][:, None]
    return float((weights**2).sum() / 2 + penalty * margin.max(1).sum())


@pytest.mark.parametrize("penalty", [0.01, 0.1, 1.0, 10.0])
@pytest.mark.parametrize(("n", "k", "d"), [(5, 5, 30), (25, 5, 30), (30, 3, 4)])
def test_the_optimum_is_liblinears(n: int, k: int, d: int, penalty: float) -> None:
    z, y = problem(n, k, d, 0)
    dual = crammer_singer(z @ z.T, F.one_hot(y, k), penalty, 20)
    ours = (z.T @ dual).numpy()
    peer = LinearSVC(multi_class="crammer_singer", C=penalty, fit_intercept=False, tol=1e-10, max_iter=1_000_000)
    theirs = peer.fit(z.numpy(), y.numpy()).coef_.T
    # The constraints hold, and it is no worse than liblinear; the optimum is unique, as the objective is strict.
    assert dual.sum(1).abs().max() < 1e-9
    assert (dual - penalty * F.one_hot(y, k)).max() < 1e-7 * max(1, penalty)
    best = objective(theirs, z.numpy(), y.numpy(), penalty)
    assert objective(ours, z.numpy(), y.numpy(), penalty) <= best * (1 + 1e-6)
    np.testing.assert_allclose(ours, theirs, atol=2e-4 * np.abs(theirs).max())


def test_its_gradient_is_the_slope_also_when_mapped() -> None:
    pairs = [problem(9, 3, 6, seed) for seed in range(3)]
    z, y = torch.stack([z for z, _ in pairs]), torch.stack([F.one_hot(y, 3) for _, y in pairs])
    way = torch.randn(z.shape, generator=generator("way"))
    aim = torch.randn(3, 6, 3, generator=generator("aim"))

    def total(z: torch.Tensor) -> torch.Tensor:
        weights = vmap(lambda z, y: z.T @ crammer_singer(z @ z.T, y, 0.3, 25))(z, y)
        return (weights * aim).sum()

    (slope,) = torch.autograd.grad(total(z.requires_grad_()), z)
    z = z.detach()
    expected = (total(z + 1e-6 * way) - total(z - 1e-6 * way)) / 2e-6
    torch.testing.assert_close((slope * way).sum(), expected, rtol=1e-4, atol=1e-6)


def test_padding_of_zeros_changes_nothing() -> None:
    z, y = problem(10, 5, 8, 1)
    weights = z.T @ crammer_singer(z @ z.T, F.one_hot(y, 5), 0.1, 20)
    more, labels = torch.cat([z, torch.zeros(3, 8)]), torch.cat([y, torch.zeros(3, dtype=torch.int64)])
    padded = more.T @ crammer_singer(more @ more.T, F.one_hot(labels, 5), 0.1, 20)
    torch.testing.assert_close(padded, weights, rtol=1e-6, atol=1e-8)


def test_classes_that_are_not_there_take_no_part() -> None:
    z, y = problem(9, 3, 8, 2)
    few = crammer_singer(z @ z.T, F.one_hot(y, 3), 0.1, 25)
    more = crammer_singer(z @ z.T, F.one_hot(y, 5), 0.1, 25, torch.arange(5) < 3)
    torch.testing.assert_close(more[:, :3], few, rtol=1e-6, atol=1e-8)
    assert more[:, 3:].abs().max() < 1e-7


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("seed", range(20))
def test_equal_examples_are_no_harm(seed: int) -> None:
    z, y = problem(25, 5, 64, seed)
    z[5] = z[0]
    weights = z.T @ crammer_singer(z @ z.T, F.one_hot(y, 5), 0.1)
    peer = LinearSVC(multi_class="crammer_singer", C=0.1, fit_intercept=False, tol=1e-10, max_iter=1_000_000)
    theirs = peer.fit(z.numpy(), y.numpy()).coef_.T
    best = objective(theirs, z.numpy(), y.numpy(), 0.1)
    assert objective(weights.numpy(), z.numpy(), y.numpy(), 0.1) <= best * (1 + 1e-5)
