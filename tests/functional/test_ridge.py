"""Ridge regression against scikit-learn."""

import pytest
import torch
from sklearn.linear_model import Ridge

from metavision.functional.ridge import ridge

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize(("n", "d"), [(5, 20), (20, 5), (7, 7)])
@pytest.mark.parametrize("penalty", [0.01, 1.0, 50.0])
def test_equals_scikit_learn(n: int, d: int, penalty: float) -> None:
    g = torch.Generator().manual_seed(n)
    z, y = torch.randn(n, d, generator=g), torch.randn(n, 3, generator=g)
    expected = Ridge(alpha=penalty, fit_intercept=False, solver="svd", tol=1e-12).fit(z.numpy(), y.numpy()).coef_.T
    torch.testing.assert_close(ridge(z, y, torch.tensor(penalty)), torch.from_numpy(expected), rtol=1e-8, atol=1e-10)
    padded = ridge(torch.cat([z, torch.zeros(4, d)]), torch.cat([y, torch.zeros(4, 3)]), torch.tensor(penalty))
    torch.testing.assert_close(padded, torch.from_numpy(expected), rtol=1e-8, atol=1e-10)


def test_its_derivative_by_the_penalty_is_right() -> None:
    z, y = torch.randn(4, 6), torch.randn(4, 2)
    penalty = torch.tensor(0.7, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: ridge(z, y, p), penalty)


@pytest.mark.parametrize("n", [4, 9])
def test_features_in_bfloat16_are_solved_in_float32(n: int) -> None:
    """Mapped and under autocast, too: it would round the products, and mapped leave the solver two types."""
    z, y = torch.randn(3, n, 6).bfloat16(), torch.randn(3, n, 2).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.vmap(ridge, (0, 0, None))(z, y, torch.tensor(0.5))
    for w, z_, y_ in zip(found, z.double(), y.double(), strict=True):
        stacked = torch.cat([z_, 0.5**0.5 * torch.eye(6, dtype=torch.float64)])
        expected = torch.linalg.lstsq(stacked, torch.cat([y_, torch.zeros(6, 2, dtype=torch.float64)])).solution
        torch.testing.assert_close(w.double(), expected, rtol=1e-4, atol=1e-5)
