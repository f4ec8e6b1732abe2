"""Distances between two sets of points."""

import torch.nn.functional as F
from torch import Tensor


def squared_euclidean(a: Tensor, b: Tensor) -> Tensor:
    """|a_i - b_j|^2 for a (n, d) and b (k, d): (n, k).

    From the differences, not from |a|^2 - 2 a.b + |b|^2, which loses half of the digits when points are near.
    """
    return (a.unsqueeze(1) - b.unsqueeze(0)).square().sum(-1)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of the angle between a_i and b_j, for a (n, d) and b (k, d): (n, k); 0 where one of them is 0."""
    return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T
