"""Winograd's convolution of 3 x 3 with padding 1: tiles of 4 x 4 results by 36 products each instead of 144.

With d a tile of 6 x 6 of x, g a kernel and e a tile of 4 x 4 of a cotangent of y,

    y = A' [(G g G') * (B' d B)] A        gradient of g = G' [(A e A') * (B' d B)] G,

where ' transposes and * multiplies element by element; the sums over channels, and those over tiles, are products of
matrices, one for each of the 36 elements. On a CPU with AVX2 a weight's gradient takes a half to nine tenths of the
time of torch's, which reaches half of what the processor can do; with AVX-512 torch's takes a half to nine tenths of
the time of tiles. In float32 it is off by some millionths however many images there are, where torch's loses digits
with their number and is better for a few.

Reference:
    Fast Algorithms for Convolutional Neural Networks (Lavin and Gray, 2015), https://arxiv.org/abs/1509.09308.
"""

import numpy as np
import torch
from torch import Tensor

from metavision.nn.kernels import Loop, array, inner, operation, over_images

SIDE = 4  # of a tile of results
CACHED = 2**22  # bytes of transformed tiles at a time: 1 to 4 MiB took the same time, 8 MiB an eighth more
G = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)


def weight_gradient(dy: Tensor, x: Tensor, groups: int) -> Tensor:
    """The gradient (d, c, 3, 3) of a convolution's weight.

    Args:
        dy: (n, groups d, h, w), the cotangent of its output, with channels last.
        x: (n, groups c, h, w), its input, likewise.
        groups: of channels.
    """
    c, d = x.shape[1] // groups, dy.shape[1] // groups
    images = max(1, CACHED // (36 * _tiles(x) * (c + d) * x.element_size()))
    total = x.new_zeros(groups, 36, d, c)
    for group in range(groups):
        for dy_i, x_i in zip(dy.split(images), x.split(images), strict=True):
            moved = tiles(dy_i, 4, groups, group).transpose(1, 2), tiles(x_i, 6, groups, group)
            torch.baddbmm(total[group], *moved, out=total[group])  # whose FLOPs are counted, as baddbmm_'s are not
    g = x.new_tensor(G)
    kernels = torch.kron(g, g).t() @ total.flatten(2)  # G' . G of all of them, (groups, 9, d c)
    return kernels.unflatten(2, (d, c)).permute(0, 2, 3, 1).reshape(groups * d, c, 3, 3)


def _tiles(x: Tensor) -> int:
    return -(-x.shape[2] // SIDE) * -(-x.shape[3] // SIDE)


@operation
def tiles(x: Tensor, side: int, groups: int, group: int) -> Tensor:
    """Of a group of channels: B' d B of tiles of 6 x 6, A e A' of tiles of 4 x 4; (36, tiles, c)."""
    maps = array(x)
    n, h, w, c = maps.shape
    out = x.new_empty(36, n * _tiles(x), c // groups)
    over_images(_transformed, maps.reshape(n, h, w, groups, c // groups), group, side, out.numpy())
    return out


# A loop for each result, since of more arrays than a few no loop becomes one of vectors.


@inner
def _of_input(x0, x1, x2, x3, x4, x5, y0, y1, y2, y3, y4, y5):
    """B' times a column."""
    n = len(x0)
    for k in range(n):
        y0[k] = 4 * x0[k] - 5 * x2[k] + x4[k]
    for k in range(n):
        y1[k] = (x4[k] - 4 * x2[k]) + (x3[k] - 4 * x1[k])
    for k in range(n):
        y2[k] = (x4[k] - 4 * x2[k]) - (x3[k] - 4 * x1[k])
    for k in range(n):
        y3[k] = (x4[k] - x2[k]) + 2 * (x3[k] - x1[k])
    for k in range(n):
        y4[k] = (x4[k] - x2[k]) - 2 * (x3[k] - x1[k])
    for k in range(n):
        y5[k] = 4 * x1[k] - 5 * x3[k] + x5[k]


@inner
def _of_cotangent(x0, x1, x2, x3, y0, y1, y2, y3, y4, y5):
    """A times a column."""
    n = len(x0)
    for k in range(n):
        y0[k] = x0[k]
    for k in range(n):
        y1[k] = (x0[k] + x2[k]) + (x1[k] + x3[k])
    for k in range(n):
        y2[k] = (x0[k] + x2[k]) - (x1[k] + x3[k])
    for k in range(n):
        y3[k] = (x0[k] + 4 * x2[k]) + 2 * (x1[k] + 4 * x3[k])
    for k in range(n):
        y4[k] = (x0[k] + 4 * x2[k]) - 2 * (x1[k] + 4 * x3[k])
    for k in range(n):
        y5[k] = x3[k]


@Loop
def _transformed(images, x, group, side, out):
    _, h, w, _, c = x.shape
    high, wide = (h + SIDE - 1) // SIDE, (w + SIDE - 1) // SIDE
    before = 1 if side == 6 else 0  # rows and columns of padding
    # Columns lie by their place in a tile, so that those of a place are one long vector.
    rows = np.zeros((side, SIDE, wide + before, c), x.dtype)
    moved = np.empty((6, SIDE * (wide + before) * c), x.dtype)
    x_ = rows.reshape((side, SIDE * (wide + before) * c))
    y_ = moved.reshape((6, SIDE, (wide + before) * c))
    out_ = out.reshape((6, 6, out.shape[1] * c))
    many = wide * c
    for i in range(*images):
        for a in range(high):
            for u in range(side):
                j = SIDE * a + u - before
                if 0 <= j < h:
                    for m in range(w):
                        at, tile = (m + before) % SIDE, (m + before) // SIDE
                        for k in range(c):
                            rows[u, at, tile, k] = x[i, j, m, group, k]
                else:
                    x_[u] = 0
            begin = (i * high + a) * many
            end = begin + many
            y = moved
            if side == 6:
                _of_input(x_[0], x_[1], x_[2], x_[3], x_[4], x_[5], y[0], y[1], y[2], y[3], y[4], y[5])
            else:
                _of_cotangent(x_[0], x_[1], x_[2], x_[3], y[0], y[1], y[2], y[3], y[4], y[5])
            for u in range(6):
                v, o = y_[u], out_[u]
                o0, o1, o2 = o[0, begin:end], o[1, begin:end], o[2, begin:end]
                o3, o4, o5 = o[3, begin:end], o[4, begin:end], o[5, begin:end]
                v0, v1, v2, v3 = v[0, :many], v[1, :many], v[2, :many], v[3, :many]
                if side == 6:
                    _of_input(v0, v1, v2, v3, v[0, c:], v[1, c:], o0, o1, o2, o3, o4, o5)
                else:
                    _of_cotangent(v0, v1, v2, v3, o0, o1, o2, o3, o4, o5)
