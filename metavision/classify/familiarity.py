"""Near what a classifier knows, or far from all of it: neighbours in the support, and `unknown`.

Features of norm 1 are likened as directions from the support's mean: without that, cosines of some networks are all
near 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from metavision.classify.heads.base import unit

AT_ONCE = 2**25  # numbers


def neighbours(z: Tensor, support: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """The m nearest of the support (n, d) to each of z (q, d): cosines and indices (q, m), the nearest first."""
    found = (_from_middle(z, support) @ _from_middle(support, support).T).topk(min(m, len(support)), dim=1)
    return found.values, found.indices


def typical(support: Tensor) -> Tensor:
    """(n,): how near, as a cosine, the nearest other image of the support (n, d) is to each; in rising order."""
    points = _from_middle(support, support)
    parts = []
    for rows in torch.arange(len(points)).split(max(1, AT_ONCE // len(points))):
        near = points[rows] @ points.T
        near[torch.arange(len(rows)), rows] = -torch.inf
        parts.append(near.amax(1))
    return torch.cat(parts).sort().values


def likelihood(nearest: Tensor, scores: Tensor) -> Tensor:
    """(q,): which share of images like the support would be as far from it as these, whose nearest is at `nearest`.

    Reference:
        Testing for Outliers with Conformal p-values (Bates et al., 2023), https://arxiv.org/abs/2104.08279, with each
        image of the support left out in turn in place of a second sample.

    Args:
        nearest: cosines (q,).
        scores: `typical` of the support (n,).
    """
    return (1 + torch.searchsorted(scores, nearest.contiguous(), right=True)) / (len(scores) + 1)


def _from_middle(z: Tensor, support: Tensor) -> Tensor:
    return F.normalize(unit(z) - unit(support).mean(0), dim=1)
