"""The passes of a block over its maps, by operations of torch; `metavision.nn.compiled` has the same for a CPU.

Maps are (n, c, h, w), with their channels last in memory; (n, c, h', w') are halved where `side` is 2. Vectors are
(c,). The formulas are those of `metavision.nn.block`, whose names these are.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

EACH = (0, 2, 3)  # what a channel's numbers lie along


def moments(y: Tensor) -> tuple[Tensor, Tensor]:
    """m(y) and the variance m((y - m(y))^2)."""
    mean, var = torch.batch_norm_update_stats(y, None, None, 0.0)  # in one pass
    return mean, var


def pooled(
    y: Tensor, mean: Tensor, r: Tensor, scale: Tensor, shift: Tensor, side: int
) -> tuple[Tensor, Tensor, Tensor]:
    """u, where in y its maxima are, and out."""
    top, index = F.max_pool2d(y, 2, return_indices=True) if side == 2 else (y, y.new_empty(0, dtype=torch.int64))
    u = torch.addcmul(_each(-mean * r), top, _each(r))
    return u, index, torch.addcmul(_each(shift), u, _each(scale)).relu_()


def sums(cotangent: Tensor, out: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """sum(g) and sum(g u)."""
    g = _alive(cotangent, out)
    return g.sum(EACH), (g * u).sum(EACH)


def spread(
    cotangent: Tensor,
    out: Tensor,
    index: Tensor,
    y: Tensor,
    rate: Tensor,
    slope: Tensor,
    level: Tensor,
    y_: Tensor | None,
    slope_: Tensor | None,
    side: int,
) -> Tensor:
    """rate up(g) + slope y + level, and slope_ y_ where that is given."""
    g = _alive(cotangent, out) * _each(rate)
    e = _up(g, index, y) if side == 2 else g
    e = e.addcmul_(y, _each(slope)).add_(_each(level))
    return e if y_ is None or slope_ is None else e.addcmul_(y_, _each(slope_))


def products(y_: Tensor, y: Tensor, mean: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """sum(y_ r (y - mean)) and sum(y_)."""
    given = torch.ones_like(r), None, None, mean, r, True, 0.0, [False, True, True]  # CUDA needs a scale
    _, dot, total = torch.ops.aten.native_batch_norm_backward(y_, y, *given)  # in one pass
    return dot, total


def tangent(
    y_: Tensor,
    index: Tensor,
    u: Tensor,
    cotangent: Tensor,
    out: Tensor,
    middle: Tensor,
    r: Tensor,
    p: Tensor,
    scale: Tensor,
    scale_: Tensor,
    shift_: Tensor,
    side: int,
) -> tuple[Tensor, Tensor]:
    """[out > 0] z' and D, for u' = r (pool(y') - middle) - p u."""
    down = y_.flatten(2).gather(2, index.flatten(2)).view_as(u) if side == 2 else y_
    u_ = ((down - _each(middle)) * _each(r)).addcmul_(u, _each(p), value=-1)
    z_ = torch.addcmul(_each(shift_), u, _each(scale_)).addcmul_(u_, _each(scale))
    return _alive(z_, out), (_alive(cotangent, out) * u_).sum(EACH)


def _each(vector: Tensor) -> Tensor:
    return vector.view(1, -1, 1, 1)


def _alive(a: Tensor, out: Tensor) -> Tensor:
    return torch.ops.aten.threshold_backward(a, out, 0)


def _up(g: Tensor, index: Tensor, y: Tensor) -> Tensor:
    """The transpose of pooling: each number goes to where the maximum was."""
    return torch.ops.aten.max_pool2d_with_indices_backward(g, y, [2, 2], [2, 2], [0, 0], [1, 1], False, index)
