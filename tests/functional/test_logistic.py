"""Logistic regression against scikit-learn's."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch.func import vmap

from metavision.functional.logistic import logistic
from metavision.seeds import generator

pytestmark = pytest.mark.usefixtures("float64")


def problem(n: int, k: int, d: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = generator("logistic", seed)
    y = torch.arange(n) % k
    return F.normalize(torch.randn(k, d, generator=g)[y] + 0.8 * torch.randn(n, d, generator=g)), y


@pytest.mark.parametrize("penalty", [0.1, 1.0, 100.0])
@pytest.mark.parametrize(("n", "k", "d"), [(5, 5, 20), (25, 5, 64), (40, 3, 4)])
def test_it_is_scikit_learns(n: int, k: int, d: int, penalty: float) -> None:
    z, y = problem(n, k, d)
    weights, offsets = logistic(z, F.one_hot(y, k), penalty)
    peer = LogisticRegression(C=penalty, tol=1e-12, max_iter=100_000).fit(z.numpy(), y.numpy())
    np.testing.assert_allclose(weights.T.numpy(), peer.coef_, atol=1e-5 * np.abs(peer.coef_).max())
    ours, theirs = (part - part.mean() for part in (offsets.numpy(), peer.intercept_))  # all may shift together
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * max(1, np.abs(theirs).max()))


def test_padding_of_zeros_changes_nothing_and_it_maps() -> None:
    (z, y), (v, w) = problem(10, 5, 8), problem(10, 5, 8, seed=1)
    one = logistic(z, F.one_hot(y, 5), 1.0)
    padded = logistic(torch.cat([z, torch.zeros(3, 8)]), F.pad(F.one_hot(y, 5), (0, 0, 0, 3)), 1.0)
    torch.testing.assert_close(padded, one, rtol=1e-7, atol=1e-9)
    both = vmap(lambda z, y: logistic(z, y, 1.0))(torch.stack([z, v]), F.one_hot(torch.stack([y, w]), 5))
    torch.testing.assert_close((both[0][0], both[1][0]), one, rtol=1e-7, atol=1e-9)


def test_in_single_precision_and_far_out() -> None:
    z, y = problem(25, 5, 64)
    exact, _ = logistic(50 * z, F.one_hot(y, 5), 1000.0, 30)
    rough, _ = logistic((50 * z).float(), F.one_hot(y, 5), 1000.0, 30)
    assert rough.isfinite().all()
    assert ((z.float() @ rough).argmax(1) == (z @ exact).argmax(1)).all()
