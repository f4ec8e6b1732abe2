"""Optimal transport with an entropy."""

import torch
from torch import Tensor


def sinkhorn(cost: Tensor, a: Tensor, b: Tensor, epsilon: float, iterations: int) -> Tensor:
    """The plan (…, n, m) with marginals a (…, n) and b (…, m) and the least <plan, cost> - epsilon * entropy(plan).

    Reference:
        Sinkhorn Distances: Lightspeed Computation of Optimal Transport (Cuturi, 2013), https://arxiv.org/abs/1306.0895

    In the domain of logarithms, so that a small epsilon does no harm. Rows and columns of weight 0 get nothing. After
    the last iteration the marginal b holds exactly, and a as far as it has converged.
    """
    f, g = potentials(cost, a, b, epsilon, iterations)
    return (f.unsqueeze(-1) - cost / epsilon + g.unsqueeze(-2)).exp()


def potentials(cost: Tensor, a: Tensor, b: Tensor, epsilon: float, iterations: int) -> tuple[Tensor, Tensor]:
    """f (…, n) and g (…, m), of which the plan is exp(f - cost / epsilon + g)."""
    kernel = -cost / epsilon
    log_a, log_b = a.log(), b.log()
    f, g = torch.zeros_like(log_a), torch.where(b > 0, 0.0, -torch.inf)  # what gets nothing has no say from the start
    for _ in range(iterations):
        f = log_a - (kernel + g.unsqueeze(-2)).logsumexp(-1)
        g = log_b - (kernel + f.unsqueeze(-1)).logsumexp(-2)
    return f, g
