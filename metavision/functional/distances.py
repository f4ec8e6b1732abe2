"""Distances between two sets of points."""

import torch.nn.functional as F
from torch import Tensor


def squared_euclidean(a: Tensor, b: Tensor) -> Tensor:
    """|a_i - b_j|^2 for a (n, d) and b (k, d): (n, k).

    As |a|^2 - 2 a.b + |b|^2, which makes no tensor of (n, k, d); points are first taken from the middle of b, since
    digits are lost where points are far from 0 and near to each other.
    """
    middle = b.mean(0)
    a, b = a - middle, b - middle
    return a.square().sum(-1, keepdim=True) - 2 * a @ b.T + b.square().sum(-1)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of the angle between a_i and b_j, for a (n, d) and b (k, d): (n, k); 0 where one of them is 0."""
    return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T
