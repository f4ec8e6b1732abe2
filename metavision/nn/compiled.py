"""The passes of a block over its maps on a CPU, compiled: each goes over the maps once, where torch's operations would
several times. The same as in `metavision.nn.plain`, which says what they are.

Maps lie in memory with their channels last, (n, h, w, c), the axes of all loops here. Sums are of a row in the maps'
own precision, and of rows in float64: one number after another, a float32 sum of 700,000 loses three of its digits.
They are operations of torch, `torch.ops.metavision`, so that whoever watches these (`engine/footprint.py`) sees them.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from metavision.nn.kernels import Array, Loop, array, operation, over_images, vector


@operation
def moments(y: Tensor) -> tuple[Tensor, Tensor]:
    if not y.numel():
        raise ValueError(f"maps of {list(y.shape)} have no moments")
    maps = array(y)
    first = maps[0, 0, 0].astype(np.float64)
    total, square = _summed(_moments, maps, first) * (y.shape[1] / y.numel())
    return vector(first + total, y), vector(np.maximum(square - total * total, 0), y)


@operation
def pooled(
    y: Tensor, mean: Tensor, r: Tensor, scale: Tensor, shift: Tensor, side: int
) -> tuple[Tensor, Tensor, Tensor]:
    n, c, h, w = y.shape
    if min(h, w) < side:
        raise ValueError(f"maps of {h}x{w} can't be halved")
    u = _maps(y, (n, c, h // side, w // side))
    out = torch.empty_like(u)
    index = torch.empty_like(u, dtype=torch.uint8) if side > 1 else _nowhere(y)
    over_images(_pooled, *map(array, (y, mean, r, scale, shift, u, index, out)), side)
    return u, index, out


@operation
def sums(cotangent: Tensor, out: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    g, gu = _summed(_sums, *map(array, (cotangent, out, u)))
    return vector(g, u), vector(gu, u)


@operation
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
    e = torch.empty_like(y)
    tilt = (None if tensor is None else array(tensor) for tensor in (y_, slope_))
    over_images(_spread, *map(array, (cotangent, out, index, y, rate, slope, level)), *tilt, array(e), side)
    return e


@operation
def products(y_: Tensor, y: Tensor, mean: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    total, dot = _summed(_products, *map(array, (y_, y, mean, r)))
    return vector(dot, y), vector(total, y)


@operation
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
    z_ = torch.empty_like(u)
    given = (y_, index, u, cotangent, out, middle, r, p, scale, scale_, shift_, z_)
    (d,) = _summed(_tangent, *map(array, given), side)
    return z_, vector(d, u)


def _maps(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, memory_format=torch.channels_last)


def _nowhere(like: Tensor) -> Tensor:
    """The index where there is no pooling."""
    return torch.empty(0, like.shape[1], 0, 0, dtype=torch.uint8, memory_format=torch.channels_last)


def _summed(loop: Loop, *given: Any) -> Array:
    return np.sum(over_images(loop, *given), axis=0)


@Loop
def _moments(images, y, first):
    # What is summed is the distance from a row's first number, then from that of all maps: no digits are lost to a
    # large mean, nor to a number far from the others.
    _, h, w, c = y.shape
    sums = np.zeros((2, c))
    row, squares = np.empty(c, y.dtype), np.empty(c, y.dtype)
    for i in range(*images):
        for j in range(h):
            row[:], squares[:] = 0, 0
            for m in range(w):
                for k in range(c):
                    v = y[i, j, m, k] - y[i, j, 0, k]
                    row[k] += v
                    squares[k] += v * v
            for k in range(c):
                away = y[i, j, 0, k] - first[k]
                sums[0, k] += row[k] + w * away
                sums[1, k] += squares[k] + away * (2 * row[k] + w * away)
    return sums


@Loop
def _pooled(images, y, mean, r, scale, shift, u, index, out, side):
    _, h, w, c = u.shape
    zero = y.dtype.type(0)
    for i in range(*images):
        for j in range(h):
            for m in range(w):
                for k in range(c):
                    top = y[i, side * j, side * m, k]
                    if side == 2:
                        at = np.uint8(0)
                        for q in range(1, 4):
                            v = y[i, 2 * j + q // 2, 2 * m + q % 2, k]
                            if v > top:
                                top, at = v, np.uint8(q)
                        index[i, j, m, k] = at
                    t = (top - mean[k]) * r[k]
                    z = scale[k] * t + shift[k]
                    u[i, j, m, k] = t
                    out[i, j, m, k] = zero if z <= zero else z  # what is not a number stays so


@Loop
def _sums(images, cotangent, out, u):
    _, h, w, c = u.shape
    zero = u.dtype.type(0)
    sums = np.zeros((2, c))
    row, products = np.empty(c, u.dtype), np.empty(c, u.dtype)
    for i in range(*images):
        for j in range(h):
            row[:], products[:] = 0, 0
            for m in range(w):
                for k in range(c):
                    g = zero if out[i, j, m, k] <= zero else cotangent[i, j, m, k]
                    row[k] += g
                    products[k] += g * u[i, j, m, k]
            sums[0] += row
            sums[1] += products
    return sums


@Loop
def _spread(images, cotangent, out, index, y, rate, slope, level, y_, slope_, e, side):
    _, h, w, c = y.shape
    rows, columns = out.shape[1:3]
    zero = y.dtype.type(0)
    # Of a row of out, and for what pooling leaves over at the end of it; without pooling all is at 0.
    g, at = np.zeros((columns + 1, c), y.dtype), np.zeros((columns + 1, c), np.uint8)
    for i in range(*images):
        for j in range(h):
            above = j // side
            if above == rows:
                g[:] = 0
            elif j % side == 0:
                for m in range(columns):
                    for k in range(c):
                        g[m, k] = zero if out[i, above, m, k] <= zero else rate[k] * cotangent[i, above, m, k]
                if side == 2:
                    at[:columns] = index[i, above]
            for m in range(w):
                half, here = m // side, np.uint8(j % side * 2 + m % side)
                for k in range(c):
                    v = slope[k] * y[i, j, m, k] + level[k]
                    if y_ is not None:
                        v += slope_[k] * y_[i, j, m, k]
                    e[i, j, m, k] = v + (g[half, k] if at[half, k] == here else zero)


@Loop
def _products(images, y_, y, mean, r):
    _, h, w, c = y.shape
    sums = np.zeros((2, c))
    row, products = np.empty(c, y.dtype), np.empty(c, y.dtype)
    for i in range(*images):
        for j in range(h):
            row[:], products[:] = 0, 0
            for m in range(w):
                for k in range(c):
                    v = y_[i, j, m, k]
                    row[k] += v
                    products[k] += v * (r[k] * (y[i, j, m, k] - mean[k]))
            sums[0] += row
            sums[1] += products
    return sums


@Loop
def _tangent(images, y_, index, u, cotangent, out, middle, r, p, scale, scale_, shift_, z_, side):
    _, h, w, c = u.shape
    zero = u.dtype.type(0)
    sums = np.zeros((1, c))
    row = np.empty(c, u.dtype)
    for i in range(*images):
        for j in range(h):
            row[:] = 0
            for m in range(w):
                for k in range(c):
                    top = y_[i, side * j, side * m, k]
                    if side == 2:
                        at = index[i, j, m, k]
                        for q in range(1, 4):
                            v = y_[i, 2 * j + q // 2, 2 * m + q % 2, k]
                            top = v if at == q else top
                    t = u[i, j, m, k]
                    u_ = (top - middle[k]) * r[k] - p[k] * t
                    z = scale_[k] * t + scale[k] * u_ + shift_[k]
                    dead = out[i, j, m, k] <= zero
                    row[k] += zero if dead else cotangent[i, j, m, k] * u_
                    z_[i, j, m, k] = zero if dead else z
            sums[0] += row
    return sums
