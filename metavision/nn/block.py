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

from collections.abc import Iterator
from itertools import repeat
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable

from metavision.nn import shared
from metavision.nn.mapped import apart, below, mapped, together, transformed
from metavision.nn.modes import modes
from metavision.nn.normalisation import EPSILON, Norm

LAST = torch.channels_last
EACH = (0, 2, 3)  # what a channel's numbers lie along
SUMMED = 2**13  # numbers of a channel added up at a time: of 700,000 a float32 sum lost three of its digits
CACHED = (
    2**22
)  # bytes of a map that are worked on at a time: 2 to 8 MiB took three quarters of the time of a whole one of 22


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
    y = _Convolution.apply(x, weight, stride)
    return _Rest.apply(y, scale.view(1, -1, 1, 1), shift.view(1, -1, 1, 1), pool)


class _Convolution(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return _conv(x, weight, stride)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        return *_ConvolutionBackward.apply(dy, *ctx.saved_tensors, ctx.stride, ctx.needs_input_grad[0]), None


class _ConvolutionBackward(Function):
    @staticmethod
    def forward(ctx: Any, dy: Tensor, x: Tensor, weight: Tensor, stride: int, inputs: bool) -> Any:
        ctx.save_for_backward(dy, x, weight)
        ctx.stride, ctx.inputs = stride, inputs
        ctx.set_materialize_grads(False)
        return _transposed(dy, x, weight, stride, inputs, True)

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


class _Rest(Function):
    """What follows the convolution, for scales of 0 and more. Of h only y is kept, since h = r (y - m(y))."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, scale: Tensor, shift: Tensor, pool: bool) -> Tensor:
        mean, var = (moment.view(scale.shape) for moment in _moments(y))
        r = var.add_(EPSILON).rsqrt_()
        top, index = F.max_pool2d(y, 2, return_indices=True) if pool else (y, None)
        u = torch.addcmul(-mean * r, top, r)
        out = torch.addcmul(shift, u, scale).relu_()
        ctx.save_for_backward(y, scale, mean, r, u, index, out)
        return out

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        return *_RestBackward.apply(cotangent, *ctx.saved_tensors, torch.is_grad_enabled()), None


class _RestBackward(Function):
    @staticmethod
    def forward(
        ctx: Any,
        cotangent: Tensor,
        y: Tensor,
        scale: Tensor,
        mean: Tensor,
        r: Tensor,
        u: Tensor,
        index: Tensor | None,
        out: Tensor,
        again: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        g = torch.ops.aten.threshold_backward(cotangent.contiguous(memory_format=LAST), out, 0)
        g_sum, gu = g.sum(EACH, keepdim=True), (g * u).sum(EACH, keepdim=True)
        rate = r if again else r * scale  # e itself is kept for whoever differentiates this
        per = -y.shape[1] / y.numel()  # -1 / N
        slope = (rate * r * gu).mul_(per)
        level = torch.addcmul(slope * mean, rate, g_sum, value=-per).neg_()
        e = torch.empty_like(y)
        for e_i, y_i, g_i, index_i in _parts(_cached(y), e, y, g * rate, index):
            _up(g_i, index_i, e_i).addcmul_(y_i, slope).add_(level)
        if not again:
            return e, gu, g_sum
        ctx.save_for_backward(y, scale, mean, r, u, index, out, g, gu, e)
        ctx.set_materialize_grads(False)
        return e * scale, gu, g_sum

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, y_: Tensor | None, scale_: Tensor | None, shift_: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        y, scale, mean, r, u, index, out, g, gu, e = ctx.saved_tensors
        zero = torch.zeros_like(scale)
        y_ = torch.zeros_like(y) if y_ is None else y_
        scale_, shift_ = zero if scale_ is None else scale_, zero if shift_ is None else shift_
        n = y.numel() // y.shape[1]
        dot, total = _sums(y_, y, scale, mean, r)
        middle, p = total.view_as(r) / n, dot.view_as(r) * r / n  # m(y'); m(h t), as m(h) = 0
        u_ = (_down(y_, index) - middle).mul_(r).addcmul_(u, p, value=-1)
        d = (g * u_).sum(EACH, keepdim=True)
        z_ = torch.addcmul(shift_, u, scale_).addcmul_(u_, scale)
        factor = scale * r / -n
        # D h + S h' = (D - S p) h + S t, and h and t are r (y - m(y)) and r (y' - m(y')).
        slope, slope_ = factor * r * torch.addcmul(d, gu, p, value=-1), factor * r * gu
        level = -torch.addcmul(slope * mean, slope_, middle)
        rate = torch.addcmul(scale_, scale, p, value=-1)
        by_y = torch.empty_like(y)
        for by_i, e_i, y_i, dy_i in _parts(_cached(y), by_y, e, y, y_):
            torch.addcmul(level, e_i, rate, out=by_i).addcmul_(y_i, slope).addcmul_(dy_i, slope_)
        return torch.ops.aten.threshold_backward(z_, out, 0), by_y, d, *[None] * 6


def _conv(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    return F.conv2d(x, weight, None, stride, 1, 1, _groups(x, weight)).contiguous(memory_format=LAST)


def _transposed(dy: Tensor, x: Tensor, weight: Tensor, stride: int, inputs: bool, weights: bool) -> Any:
    """What a cotangent of a convolution's output is at its input and its weight."""
    return torch.ops.aten.convolution_backward(
        dy, x, weight, None, [stride] * 2, [1, 1], [1, 1], False, [0, 0], _groups(x, weight), [inputs, weights, False]
    )[:2]


def _groups(x: Tensor, weight: Tensor) -> int:
    return x.shape[1] // weight.shape[1]


def _moments(y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (c,) of the channels of y (n, c, h, w)."""
    # In one pass, where torch.var_mean takes thirty times as long on a CPU.
    parts = [torch.batch_norm_update_stats(part, None, None, 0.0) for (part,) in _parts(_summed(y), y)]
    if len(parts) == 1:
        return parts[0]
    means, variances = (torch.stack(some) for some in zip(*parts, strict=True))
    share = torch.full_like(means, len(y[: _summed(y)]) / len(y))
    share[-1] = 1 - (len(parts) - 1) * len(y[: _summed(y)]) / len(y)
    mean = (share * means).sum(0)
    return mean, (share * (variances + (means - mean).square_())).sum(0)


def _sums(y_: Tensor, y: Tensor, scale: Tensor, mean: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """The sums of y_ r (y - mean) and of y_ over a channel, in one pass over both."""
    given = (
        scale.flatten(),
        None,
        None,
        mean.flatten(),
        r.flatten(),
        True,
        EPSILON,
        [False, True, True],
    )  # CUDA needs a scale
    backward = torch.ops.aten.native_batch_norm_backward
    parts = [backward(dy_i, y_i, *given)[1:] for y_i, dy_i in _parts(_summed(y), y, y_)]
    dot, total = (torch.stack(some).sum(0) for some in zip(*parts, strict=True))
    return dot, total


def _cached(y: Tensor) -> int:
    """How many images of y stay in cache while several passes go over them."""
    images = max(1, CACHED * len(y) // (y.numel() * y.element_size()))
    return images if 2 * images <= len(y) else len(y)


def _summed(y: Tensor) -> int:
    """How many images of y can be added up as torch does it on a CPU, one number after another."""
    return max(1, SUMMED // y[0, 0].numel())


def _parts(images: int, first: Tensor, *rest: Tensor | None) -> Iterator[Any]:
    """Some images of maps at a time; on other devices all of them."""
    if first.device.type != "cpu" or images >= len(first):
        return iter([(first, *rest)])
    parts = [repeat(None) if maps is None else maps.split(images) for maps in rest]
    return zip(first.split(images), *parts, strict=False)


def _up(g: Tensor, index: Tensor | None, out: Tensor) -> Tensor:
    """The transpose of pooling: each number goes to where the maximum was."""
    if index is None:
        return out.copy_(g)
    return torch.ops.aten.max_pool2d_with_indices_backward.grad_input(
        g, out, [2, 2], [2, 2], [0, 0], [1, 1], False, index, grad_input=out
    )


def _down(a: Tensor, index: Tensor | None) -> Tensor:
    """What stands where the maximum was."""
    if index is None:
        return a
    down = torch.empty_like(index, dtype=a.dtype)
    for a_i, index_i, down_i in _parts(_cached(a), a, index, down):
        there = _up(torch.ones_like(down_i), index_i, torch.empty_like(a_i))
        torch.ops.aten.avg_pool2d.out(there.mul_(a_i), [2, 2], [2, 2], [0, 0], False, True, 1, out=down_i)
    return down
