"""Class means."""

import torch
from torch import Tensor


def members(y: Tensor, way: int, mask: Tensor | None, dtype: torch.dtype) -> Tensor:
    """One-hot labels (n, k) of y (n,), with rows of zeros for padding."""
    labels = (y.unsqueeze(-1) == torch.arange(way, device=y.device)).to(dtype)  # F.one_hot reads them on the host
    return labels if mask is None else labels * mask.to(dtype).unsqueeze(-1)


def prototypes(z: Tensor, y: Tensor, way: int, mask: Tensor | None = None) -> Tensor:
    """Mean feature of every class: z (n, d), y (n,) in [0, k), mask (n,) -> (k, d).

    A class without examples gets zeros. As a product with the one-hot labels, so that it maps over tasks.
    """
    labels = members(y, way, mask, z.dtype)
    return labels.T @ z / labels.sum(0).clamp_min(1).unsqueeze(-1)
