"""Prototypes rectified by unlabelled images."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from metavision.functional.distances import cosine


class Rectified(NamedTuple):
    """Prototypes, and how far the unlabelled images were moved."""

    prototypes: Tensor  # (k, d)
    shift: Tensor  # (d,)


def rectified(z: Tensor, y: Tensor, more: Tensor, counts: Tensor, sharpness: float) -> Rectified:
    """Class means of labelled and pseudo-labelled features, each weighted by its cosine to the plain mean.

    Reference:
        Prototype Rectification for Few-Shot Learning (Liu et al., 2020), https://arxiv.org/abs/1911.10713: the
        unlabelled are first moved so that their mean is that of the labelled; an image weighs exp(sharpness * cosine).

    Args:
        z: labelled features (n, d).
        y: their one-hot labels (n, k); rows of zeros are padding.
        more: unlabelled features (m, d).
        counts: (m,) 1, or 0 for padding.
        sharpness: of the weights.
    """
    labelled = y.sum(1)
    shift = (z * labelled.unsqueeze(1)).sum(0) / labelled.sum() - (more * counts.unsqueeze(1)).sum(0) / counts.sum()
    moved = more + shift
    present = y.sum(0) > 0
    plain = y.T @ z / y.sum(0).clamp_min(1).unsqueeze(1)
    by_z, by_more = (cosine(part, plain) for part in (z, moved))
    said = F.one_hot(by_more.masked_fill(~present, -2).argmax(1), y.shape[1]).to(z.dtype) * counts.unsqueeze(1)
    weights, weights_more = y * (sharpness * by_z).exp(), said * (sharpness * by_more).exp()
    total = (weights.sum(0) + weights_more.sum(0)).unsqueeze(1)
    means = (weights.T @ z + weights_more.T @ moved) / total.masked_fill(total == 0, 1)
    return Rectified(means, shift)
