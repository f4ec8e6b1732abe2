"""Moments over images of which several processes hold a part each, as long as a scope lasts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

Total = Callable[[Tensor], Tensor]  # the sum over processes, in place
_total: ContextVar[Total | None] = ContextVar("total", default=None)


def total() -> Total | None:
    """That of the scope; None: images are not shared."""
    return _total.get()


@contextmanager
def over(total: Total) -> Iterator[None]:
    """Moments are those of all processes' images. Every process takes the same moments in the same order."""
    token = _total.set(total)
    try:
        yield
    finally:
        _total.reset(token)


def moments(x: Tensor, total: Total) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over all processes' images and pixels, of the part (n, C, H, W) here: two (C,).

    Differentiable once, for losses that are means over the images of a process: the slope of the mean over all images
    is then the mean of the processes' slopes, weighed by their images.
    """
    n, each = len(x), x.shape[2] * x.shape[3]
    wide = torch.promote_types(x.dtype, torch.float32)  # counts above 256 are not whole in bfloat16
    own = x.sum((0, 2, 3), dtype=wide)
    sums = _Sum.apply(torch.cat([own, own.new_full((1,), n * each)]), n, total)
    mean = sums[:-1] / sums[-1].detach()
    squares = (x - mean.view(1, -1, 1, 1)).square().sum((0, 2, 3))
    return mean, _Sum.apply(squares, n, total) / sums[-1].detach()


class _Sum(Function):
    """The sum S of what all processes have.

    The loss is sum_q n_q L_q / sum_q n_q, where process q computes the slope of L_q alone, and the engine weighs it by
    n_q. So the cotangent of what process r gave, before it is weighed, is sum_q n_q dL_q/dS / n_r.
    """

    @staticmethod
    def forward(ctx: Any, part: Tensor, n: int, total: Total) -> Tensor:
        ctx.n, ctx.total = n, total
        return total(part.clone())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return ctx.total(grad * ctx.n) / ctx.n, None, None
