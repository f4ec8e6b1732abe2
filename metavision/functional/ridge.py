"""Ridge regression in closed form."""

import torch
from torch import Tensor


def ridge(z: Tensor, y: Tensor, penalty: Tensor) -> Tensor:
    """The W (d, k) with the least |z W - y|^2 + penalty |W|^2, for z (n, d), y (n, k) and penalty a positive scalar.

    Two forms give the same: (z'z + p I)^-1 z'y solves a system of d, z'(zz' + p I)^-1 y (Woodbury) one of n; the
    smaller is solved. A row of z and y that is zero changes nothing, so padding is zeroed. Of features in bfloat16
    it is solved in float32, also under autocast.
    """
    wide = torch.promote_types(z.dtype, torch.float32)
    with torch.autocast(z.device.type, enabled=False):
        z, y = z.to(wide), y.to(wide)
        n, d = z.shape
        if n <= d:
            return z.T @ _solved(z @ z.T + penalty * torch.eye(n, dtype=wide, device=z.device), y)
        return _solved(z.T @ z + penalty * torch.eye(d, dtype=wide, device=z.device), z.T @ y)


def _solved(a: Tensor, b: Tensor) -> Tensor:
    # Not torch.linalg.solve, which waits for a GPU to ask whether a is singular; with a penalty it is not.
    return torch.linalg.solve_ex(a, b)[0]
