"""Class means."""

import torch.nn.functional as F
from torch import Tensor


def prototypes(z: Tensor, y: Tensor, way: int, mask: Tensor | None = None) -> Tensor:
    """Mean feature of every class: z (n, d), y (n,) in [0, k), mask (n,) -> (k, d).

    A class without examples gets zeros. As a product with the one-hot labels, so that it maps over tasks.
    """
    members = F.one_hot(y, way).to(z.dtype)  # (n, k)
    if mask is not None:
        members = members * mask.to(z.dtype).unsqueeze(-1)
    return members.T @ z / members.sum(0).clamp_min(1).unsqueeze(-1)
