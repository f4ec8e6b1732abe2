"""A block of convolution, normalisation, pooling and ReLU that knows its own first and second derivative.

Autograd takes the second derivative of such a block by some forty operations on maps of full size. Written out there
are few, half of them on pooled maps. With m(.) the mean over the N numbers of a channel of y, the convolution's output,

    c = y - m(y)    r = 1 / sqrt(m(c^2) + epsilon)    h = r c    u = pool(h)    z = s u + b    out = relu(z),

pooling before the scale, which is the same where s >= 0; the sign of a negative s is moved into r, for which all below
holds as well. For a cotangent G of out, let g = G [out > 0], S = sum(g u), `up` be the transpose of pooling, and e the
gradient of S by y:

    e = r (up(g) - sum(g) / N - h S / N)    dy = s e    ds = S    db = sum(g).

This is linear in G, and so the cotangent of G, for cotangents (y', s', b') of (dy, ds, db), is [out > 0] z', by the
block's tangent in their direction:

    t = r (y' - m(y'))    p = m(h t)    h' = t - p h    u' = pool(h')    z' = s' u + s u' + b'.

What is left is the gradient of sum(g z') = s' S + s D + b' sum(g), where D = sum(g u'). By s it is D, and by y, since r
has the slope -r^2 h / N and p the slope r (h' - p h) / N,

    (s' - s p) e - s r (D h + S h') / N.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from metavision.nn.gradient import transformed
from metavision.nn.modes import modes
from metavision.nn.normalisation import EPSILON, Norm

LAST = torch.channels_last
EACH = (0, 2, 3)  # what a channel's numbers lie along


def applies(x: Tensor, norm: object, mask: Tensor | None) -> bool:
    """Whether the formulas are asked for and hold: moments of this batch, that nobody looks at, and no vmap."""
    return (
        modes().explicit
        and mask is None
        and isinstance(norm, Norm)
        and norm.mean is None
        and not (norm._forward_pre_hooks or norm._forward_hooks)  # noqa: SLF001
        and not torch.is_autocast_enabled(x.device.type)
        and not transformed()
    )


def block(x: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, *, stride: int, pool: bool) -> Tensor:
    """relu(pool(norm(conv(x)))), differentiable twice.

    Args:
        x: (n, c, h, w).
        weight: (d, c, 3, 3) of a padded convolution.
        scale: (d,) of the normalisation by the moments of the maps; likewise `shift`.
        stride: of the convolution.
        pool: whether the maximum of 2 x 2 is taken.
    """
    # Channels-last, from which all maps inherit it: pooling is twenty times as fast so on a CPU. One channel counts as
    # channels-last whatever its strides, and convolutions go by the strides.
    x = x.clone(memory_format=LAST) if x.shape[1] == 1 else x.contiguous(memory_format=LAST)
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
    """What follows the convolution. Of h only y is kept, since h = r (y - m(y))."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, scale: Tensor, shift: Tensor, pool: bool) -> Tensor:
        # In one pass, where torch.var_mean takes thirty times as long on a CPU.
        mean, var = torch.batch_norm_update_stats(y, None, None, 0.0)
        mean, r = mean.view(scale.shape), var.view(scale.shape).add_(EPSILON).rsqrt_()
        sign = torch.copysign(torch.ones_like(scale), scale) if pool else None
        if sign is not None:
            r.mul_(sign)
        h = torch.addcmul(-mean * r, y, r)
        u, index = F.max_pool2d(h, 2, return_indices=True) if pool else (h, None)
        out = torch.addcmul(shift, u, _times(scale, sign)).relu_()
        ctx.save_for_backward(y, scale, sign, mean, r, u, index, out)
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
        sign: Tensor | None,
        mean: Tensor,
        r: Tensor,
        u: Tensor,
        index: Tensor | None,
        out: Tensor,
        again: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        g = torch.ops.aten.threshold_backward(cotangent.contiguous(memory_format=LAST), out, 0)
        g_sum, gu = g.sum(EACH, keepdim=True), (g * u).sum(EACH, keepdim=True)
        n, slope = y.numel() // y.shape[1], r * r * gu
        e = _up(g * r, y, index).addcmul_(y, slope, value=-1 / n)
        e.sub_(torch.addcmul(r * g_sum, slope, mean, value=-1), alpha=1 / n)
        if not again:  # nobody differentiates this
            return e.mul_(_times(scale, sign)), _times(gu, sign), g_sum
        ctx.save_for_backward(y, scale, sign, mean, r, u, index, out, g, gu, e)
        ctx.set_materialize_grads(False)
        return e * _times(scale, sign), _times(gu, sign), g_sum

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, y_: Tensor | None, scale_: Tensor | None, shift_: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        y, scale, sign, mean, r, u, index, out, g, gu, e = ctx.saved_tensors
        zero = torch.zeros_like(scale)
        scale, scale_, shift_ = (
            _times(scale, sign),
            zero if scale_ is None else _times(scale_, sign),
            zero if shift_ is None else shift_,
        )
        t = torch.zeros_like(y) if y_ is None else (y_ - y_.mean(EACH, keepdim=True)).mul_(r)
        p = (y * t).mean(EACH, keepdim=True).mul_(r)  # m(h t), as m(t) = 0
        u_ = _down(t, y, index).addcmul(u, p, value=-1)
        d = (g * u_).sum(EACH, keepdim=True)
        z_ = torch.addcmul(shift_, u, scale_).addcmul_(u_, scale)
        factor = scale * r * (-y.shape[1] / y.numel())
        slope = factor * torch.addcmul(d, gu, p, value=-1) * r  # D h + S h' = (D - S p) h + S t
        by_y = (
            (e * torch.addcmul(scale_, scale, p, value=-1))
            .addcmul_(y, slope)
            .addcmul_(t, factor * gu)
            .sub_(slope * mean)
        )
        return torch.ops.aten.threshold_backward(z_, out, 0), by_y, _times(d, sign), *[None] * 7


def _conv(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    return F.conv2d(x, weight, None, stride, 1).contiguous(memory_format=LAST)


def _transposed(dy: Tensor, x: Tensor, weight: Tensor, stride: int, inputs: bool, weights: bool) -> Any:
    """What a cotangent of a convolution's output is at its input and its weight."""
    return torch.ops.aten.convolution_backward(
        dy, x, weight, None, [stride] * 2, [1, 1], [1, 1], False, [0, 0], 1, [inputs, weights, False]
    )[:2]


def _times(channels: Tensor, sign: Tensor | None) -> Tensor:
    return channels if sign is None else channels * sign


def _up(g: Tensor, like: Tensor, index: Tensor | None) -> Tensor:
    """The transpose of pooling: each number goes to where the maximum was."""
    if index is None:
        return g
    return torch.ops.aten.max_pool2d_with_indices_backward(g, like, [2, 2], [2, 2], [0, 0], [1, 1], False, index)


def _down(a: Tensor, like: Tensor, index: Tensor | None) -> Tensor:
    """What stands where the maximum was."""
    if index is None:
        return a
    ones = torch.ones_like(index, dtype=a.dtype)
    return F.avg_pool2d(_up(ones, like, index).mul_(a), 2, divisor_override=1)
