"""Transport against POT."""

import numpy as np
import ot
import pytest
import torch

from metavision.functional.sinkhorn import sinkhorn
from metavision.seeds import generator

pytestmark = pytest.mark.usefixtures("float64")


def problem(n: int, m: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = generator("transport", n, m)
    a, b = torch.rand(n, generator=g) + 0.1, torch.rand(m, generator=g) + 0.1
    return torch.rand(n, m, generator=g), a / a.sum(), b / b.sum()


@pytest.mark.parametrize("epsilon", [0.05, 1.0])
def test_the_plan_is_pots(epsilon: float) -> None:
    cost, a, b = problem(7, 5)
    theirs = ot.sinkhorn(a.numpy(), b.numpy(), cost.numpy(), epsilon, stopThr=1e-13, numItermax=100_000)
    np.testing.assert_allclose(sinkhorn(cost, a, b, epsilon, 3000).numpy(), theirs, atol=1e-9)


def test_with_little_entropy_it_is_the_linear_program() -> None:
    cost, a, b = problem(25, 25)
    exact = ot.emd2(a.numpy(), b.numpy(), cost.numpy())
    plan = sinkhorn(cost, a, b, 2e-3, 10_000)
    assert float((plan * cost).sum()) == pytest.approx(exact, rel=0.01)
    torch.testing.assert_close(plan.sum(0), b)
    torch.testing.assert_close(plan.sum(1), a, atol=1e-4, rtol=0)


def test_plans_of_a_batch_are_those_of_each() -> None:
    one, two = problem(4, 6), problem(4, 6)
    both = sinkhorn(*(torch.stack(pair) for pair in zip(one, two, strict=True)), 0.1, 50)
    torch.testing.assert_close(both[1], sinkhorn(*two, 0.1, 50))
