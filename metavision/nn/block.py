"""A block of convolution, normalisation, pooling and ReLU that knows its own first and second derivative.

Autograd takes the second derivative of such a block by some forty operations on maps of full size. Written out there
are few, half of them on pooled maps. With m(.) the mean over the N numbers of a channel of y, the convolution's output,

    c = y - m(y)    r = 1 / sqrt(m(c^2) + epsilon)    h = r c    u = pool(h)    z = s u + b    out = relu(z),

pooling before the scale, which is the same where s >= 0; of a channel with a negative s, kernel and scale change sign.
For a cotangent G of out, let g = G [out > 0], S = sum(g u), `up` be the transpose of pooling, and e the
gradient of S by y:

    e = r (up(g) - sum(g) / N - h S / N)    dy = s e    ds = S    db = sum(g).

This is linear in G, and so the cotangent of G, for cotangents (y', s', b') of (dy, ds, db), is [out > 0] z', by the
block's tangent in their direction:

    t = r (y' - m(y'))    p = m(h t)    h' = t - p h    u' = pool(h')    z' = s' u + s u' + b'.

What is left is the gradient of sum(g z') = s' S + s D + b' sum(g), where D = sum(g u'). By s it is D, and by y, since r
has the slope -r^2 h / N and p the slope r (h' - p h) / N,

    (s' - s p) e - s r (D h + S h') / N.
"""

from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable

from metavision.nn import plain, shared
from metavision.nn.mapped import apart, below, mapped, together, transformed
from metavision.nn.modes import modes
from metavision.nn.normalisation import EPSILON, Norm

LAST = torch.channels_last
CACHED = 6 * 2**20  # bytes, for each thread, of a map that is soon read again: of 1 to 8 MiB the quickest
CHANNELS, SIDE = 32, 14  # of maps, from which on Winograd's tiles pay for a weight's gradient


def applies(x: Tensor, conv: nn.Module, norm: nn.Module, mask: Tensor | None) -> bool:
    """Whether the formulas are asked for and hold: moments of this batch alone, that nobody looks at; only vmap."""
    return (
        modes().explicit
        and mask is None
        and isinstance(norm, Norm)
        and norm.mean is None
        and shared.total() is None
        and not any(layer._forward_pre_hooks or layer._forward_hooks for layer in (conv, norm))  # noqa: SLF001
        and not torch.is_autocast_enabled(x.device.type)
        and (mapped() or not transformed())
        and (x.device.type != "cpu" or _compiles(x))  # torch's own sums on a CPU lose digits
    )


def block(x: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, *, stride: int, pool: bool) -> Tensor:
    """relu(pool(norm(conv(x)))), differentiable twice; by a scale of 0 its derivative is that from above.

    Under vmap the tasks are groups of channels of one convolution. In the time of calls they are as one task then, and
    on the smallest maps a convolution of four groups takes half of four convolutions' time.

    Args:
        x: (n, c, h, w).
        weight: (d, c, 3, 3) of a padded convolution.
        scale: (d,) of the normalisation by the moments of the maps; likewise `shift`.
        stride: of the convolution.
        pool: whether the maximum of 2 x 2 is taken.
    """
    if not mapped():
        return _block(x, weight, scale, shift, stride, pool)
    x, weight, scale, shift = together(x, 1), together(weight), together(scale), together(shift)
    with below():
        grouped = _block(x.flatten(1, 2), weight.flatten(0, 1), scale.flatten(), shift.flatten(), stride, pool)
    return apart(grouped.unflatten(1, scale.shape), 1)


def _block(x: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, stride: int, pool: bool) -> Tensor:
    # Channels-last, from which all maps inherit it: pooling is twenty times as fast so on a CPU. One channel counts as
    # channels-last whatever its strides, and convolutions go by the strides.
    x = x.clone(memory_format=LAST) if x.shape[1] == 1 else x.contiguous(memory_format=LAST)
    if pool:  # whether any is negative is not asked, since that would be waited for
        sign = torch.copysign(torch.ones_like(scale), scale.detach())
        weight, scale = weight * sign.view(-1, 1, 1, 1), scale * sign
    return _Block.apply(x, weight, scale, shift, stride, 2 if pool else 1)[1]


class _Block(Function):
    """For scales of 0 and more. Of h only y is kept, since h = r (y - m(y)).

    y is put out as well: what flows back to it from its own derivatives meets what flows back through out there, and
    goes through the convolution once with it.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, stride: int, side: int
    ) -> tuple[Tensor, Tensor]:
        y = _conv(x, weight, stride)
        passes = _passes(y)
        mean, var = passes.moments(y)
        r = var.add_(EPSILON).rsqrt_()
        u, index, out = passes.pooled(y, mean, r, scale, shift, side)
        ctx.save_for_backward(x, weight, y, scale, mean, r, u, index, out)
        ctx.stride, ctx.side = stride, side
        ctx.set_materialize_grads(False)
        return y, out

    @staticmethod
    def backward(ctx: Any, y_: Tensor | None, cotangent: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight, *kept = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:2]
        if cotangent is None and y_ is None:
            return (None,) * 6
        if cotangent is not None and not torch.is_grad_enabled():
            return *_first_order(cotangent, y_, x, weight, kept, ctx.stride, ctx.side, wanted), None, None
        dy, ds, db = y_, None, None
        if cotangent is not None:
            dy, ds, db = _RestBackward.apply(cotangent, *kept, ctx.side)
            dy = dy if y_ is None else dy + y_
        return *_ConvolutionBackward.apply(dy, x, weight, ctx.stride, wanted), ds, db, None, None


class _ConvolutionBackward(Function):
    @staticmethod
    def forward(ctx: Any, dy: Tensor, x: Tensor, weight: Tensor, stride: int, wanted: tuple[bool, bool]) -> Any:
        inputs = wanted[0]
        ctx.save_for_backward(dy if inputs else None, x, weight)  # of a first layer the largest map, not needed again
        ctx.stride, ctx.inputs = stride, inputs
        ctx.set_materialize_grads(False)
        return _transposed(dy, x, weight, stride, *wanted)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, x_: Tensor | None, w_: Tensor | None) -> tuple[Tensor | None, ...]:
        dy, x, weight = ctx.saved_tensors
        by_dy = by_x = by_w = None
        if w_ is not None:
            by_dy = _conv(x, w_, ctx.stride)
            by_x = _transposed(dy, x, w_, ctx.stride, True, False)[0] if ctx.inputs else None
        if x_ is not None:
            y_ = _conv(x_, weight, ctx.stride)
            by_dy = y_ if by_dy is None else by_dy.add_(y_)
            by_w = _transposed(dy, x_, weight, ctx.stride, False, True)[1]
        return by_dy, by_x, by_w, None, None


class _RestBackward(Function):
    """Of what follows the convolution."""

    @staticmethod
    def forward(
        ctx: Any,
        cotangent: Tensor,
        y: Tensor,
        scale: Tensor,
        mean: Tensor,
        r: Tensor,
        u: Tensor,
        index: Tensor,
        out: Tensor,
        side: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        cotangent = cotangent.contiguous(memory_format=LAST)
        passes = _passes(y)
        g_sum, gu = passes.sums(cotangent, out, u)
        dy = passes.spread(cotangent, out, index, y, *_of_e(scale, y, mean, r, g_sum, gu), None, None, side)
        ctx.save_for_backward(cotangent, y, scale, mean, r, u, index, out, g_sum, gu)
        ctx.side = side
        ctx.set_materialize_grads(False)
        return dy, gu, g_sum

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, y_: Tensor | None, scale_: Tensor | None, shift_: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        cotangent, y, scale, mean, r, u, index, out, g_sum, gu = ctx.saved_tensors
        passes, side = _passes(y), ctx.side
        zero = torch.zeros_like(scale)
        y_ = torch.zeros_like(y) if y_ is None else y_.contiguous(memory_format=LAST)
        scale_, shift_ = zero if scale_ is None else scale_, zero if shift_ is None else shift_
        n = y.numel() // y.shape[1]
        dot, total = passes.products(y_, y, mean, r)
        middle, p = total / n, dot * r / n  # m(y'); m(h t), as m(h) = 0
        z_, d = passes.tangent(y_, index, u, cotangent, out, middle, r, p, scale, scale_, shift_, side)
        factor = scale * r / -n
        # D h + S h' = (D - S p) h + S t, and h and t are r (y - m(y)) and r (y' - m(y')).
        slope, slope_ = factor * r * torch.addcmul(d, gu, p, value=-1), factor * r * gu
        level = -torch.addcmul(slope * mean, slope_, middle)
        rate = torch.addcmul(scale_, scale, p, value=-1)
        rate, slope_e, level_e = _of_e(rate, y, mean, r, g_sum, gu)
        by_y = passes.spread(cotangent, out, index, y, rate, slope + slope_e, level + level_e, y_, slope_, side)
        return z_, by_y, d, *[None] * 6


def _first_order(
    cotangent: Tensor,
    y_: Tensor | None,
    x: Tensor,
    weight: Tensor,
    kept: list[Tensor],
    stride: int,
    side: int,
    wanted: tuple[bool, bool],
) -> tuple[Tensor | None, ...]:
    """dx, dw, ds and db for cotangents of out and of y, which nobody differentiates again; `wanted` are dx and dw.

    Of a first layer, whose images have no gradient, compiled passes make dy for a few images at a time: it is in cache
    when the weight's gradient reads it, and never whole in memory. It is the largest map of all.
    """
    y, scale, mean, r, u, index, out = kept
    passes = _passes(y)
    cotangent = cotangent.contiguous(memory_format=LAST)
    g_sum, gu = passes.sums(cotangent, out, u)
    of_e = _of_e(scale, y, mean, r, g_sum, gu)
    one = None if y_ is None else torch.ones_like(scale)
    images = many = y.shape[0]
    if not wanted[0] and _compiles(y):
        many = max(1, CACHED * torch.get_num_threads() * images // (y.numel() * y.element_size()))
    dx = dw = None
    for first in range(0, images if any(wanted) else 0, many):
        here = slice(first, first + many)
        y_here = None if y_ is None else y_[here]
        dy = passes.spread(cotangent[here], out[here], index[here], y[here], *of_e, y_here, one, side)
        dx, dw_here = _transposed(dy, x[here], weight, stride, *wanted)
        dw = dw_here if dw is None else dw.add_(dw_here)
    return dx, dw, gu, g_sum


def _of_e(scale: Tensor, y: Tensor, mean: Tensor, r: Tensor, g_sum: Tensor, gu: Tensor) -> tuple[Tensor, ...]:
    """rate, slope and level in scale * e = rate up(g) + slope y + level."""
    per = -y.shape[1] / y.numel()  # -1 / N
    slope = (r * r * gu).mul_(per)
    return scale * r, scale * slope, scale * torch.addcmul(slope * -mean, r, g_sum, value=per)


def _conv(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    return F.conv2d(x, weight, None, stride, 1, 1, _groups(x, weight)).contiguous(memory_format=LAST)


def _transposed(dy: Tensor, x: Tensor, weight: Tensor, stride: int, inputs: bool, weights: bool) -> Any:
    """What a cotangent of a convolution's output is at its input and its weight."""
    groups = _groups(x, weight)
    given = dy, x, weight, None, [stride] * 2, [1, 1], [1, 1], False, [0, 0], groups
    channels, side = min(weight.shape[0] // groups, weight.shape[1]), min(x.shape[2:])
    if not (weights and stride == 1 and channels >= CHANNELS and side >= SIDE and _tiled(x)):
        return torch.ops.aten.convolution_backward(*given, [inputs, weights, False])[:2]
    by_x = torch.ops.aten.convolution_backward(*given, [True, False, False])[0] if inputs else None
    return by_x, import_module("metavision.nn.winograd").weight_gradient(dy, x, groups)


def _groups(x: Tensor, weight: Tensor) -> int:
    return x.shape[1] // weight.shape[1]


def _passes(y: Tensor) -> ModuleType:
    """Where the passes over maps like y are."""
    return import_module("metavision.nn.compiled") if _compiles(y) else plain


def _tiled(x: Tensor) -> bool:
    """Whether a weight's gradient by maps like x goes by tiles: with AVX-512 oneDNN's own takes less time."""
    return torch.backends.cpu.get_cpu_capability() == "AVX2" and _compiles(x)


def _compiles(y: Tensor) -> bool:
    """Whether there are compiled loops for maps like y."""
    return y.device.type == "cpu" and y.dtype in (torch.float32, torch.float64) and _numba()


@cache
def _numba() -> bool:
    """Whether numba is there, and takes the numpy that is."""
    try:
        import_module("metavision.nn.kernels")
    except ImportError:
        return False
    return True
