"""Compiled passes over maps against the same of torch's operations, and against their definition."""

import pytest
import torch
from torch import Tensor

from metavision.nn import kernels, plain
from metavision.nn.block import block

compiled = pytest.importorskip("metavision.nn.compiled", exc_type=ModuleNotFoundError)
LAST = torch.channels_last
SHAPES = [(3, 4, 6, 8), (2, 3, 7, 5), (1, 1, 2, 2), (4, 5, 3, 3), (2, 1, 5, 6)]
BOTH = pytest.mark.parametrize("side", [1, 2])
EVERY = pytest.mark.parametrize("shape", SHAPES, ids=str)

pytestmark = pytest.mark.usefixtures("float64")


def drawn(*shapes: tuple[int, ...]) -> list[Tensor]:
    """Numbers with equal neighbours here and there; maps with their channels last."""
    draw = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=draw).round(decimals=1) for shape in shapes]
    return [t.contiguous(memory_format=LAST) if t.ndim == 4 else t for t in tensors]


def halved(shape: tuple[int, ...], side: int) -> tuple[int, ...]:
    n, c, h, w = shape
    return n, c, h // side, w // side


@EVERY
def test_moments(shape: tuple[int, ...]) -> None:
    (y,) = drawn(shape)
    mean, var = compiled.moments(y)
    torch.testing.assert_close(mean, y.mean((0, 2, 3)))
    torch.testing.assert_close(var, y.var((0, 2, 3), correction=0))


@EVERY
@BOTH
def test_what_is_pooled(shape: tuple[int, ...], side: int) -> None:
    y, *vectors = drawn(shape, *[shape[1:2]] * 4)
    u, index, out = compiled.pooled(y, *vectors, side)
    expected_u, places, expected = plain.pooled(y, *vectors, side)
    torch.testing.assert_close((u, out), (expected_u, expected))
    if side == 2:  # ours is the place in the window, torch's that in the map
        rows, columns = places // shape[3], places % shape[3]
        assert torch.equal(index.long(), rows % 2 * 2 + columns % 2)


@EVERY
@BOTH
@pytest.mark.parametrize("tilted", [False, True])
def test_what_is_spread(shape: tuple[int, ...], side: int, tilted: bool) -> None:
    small = halved(shape, side)
    y, y_, cotangent, *vectors = drawn(shape, shape, small, *[shape[1:2]] * 8)
    rate, slope, level, slope_, *rest = vectors
    tilt = (y_, slope_) if tilted else (None, None)
    (_, ours, out), (_, torchs, _) = (passes.pooled(y, *rest, side) for passes in (compiled, plain))
    torch.testing.assert_close(
        compiled.spread(cotangent, out, ours, y, rate, slope, level, *tilt, side),
        plain.spread(cotangent, out, torchs, y, rate, slope, level, *tilt, side),
    )


@EVERY
@BOTH
def test_sums_products_and_tangent(shape: tuple[int, ...], side: int) -> None:
    small = halved(shape, side)
    y, y_, cotangent, *vectors = drawn(shape, shape, small, *[shape[1:2]] * 6)
    (u, ours, out), (_, torchs, _) = (passes.pooled(y, *vectors[:4], side) for passes in (compiled, plain))
    found = [
        [
            *passes.sums(cotangent, out, u),
            *passes.products(y_, y, *vectors[:2]),
            *passes.tangent(y_, index, u, cotangent, out, *vectors, side),
        ]
        for passes, index in ((compiled, ours), (plain, torchs))
    ]
    torch.testing.assert_close(*found)


def test_what_is_no_number_stays_so() -> None:
    y, weight, scale, shift = drawn((2, 3, 6, 6), (4, 3, 3, 3), (4,), (4,))
    y[1, 0, 2, 2] = torch.nan
    assert block(y, weight, scale, shift, stride=1, pool=True).isnan().all()


def test_images_are_shared_by_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "SHARED", 1)
    shapes = [(5, 3, 8, 8), (4, 3, 3, 3), (4,), (4,)]

    def results(threads: int) -> list[Tensor]:
        torch.set_num_threads(threads)
        given = [t.requires_grad_() for t in drawn(*shapes)]
        out = block(*given, stride=1, pool=True)
        first = torch.autograd.grad(out.square().sum(), given, create_graph=True)
        second = torch.autograd.grad(sum(slope.square().sum() for slope in first), given)
        return [out, *first, *second]

    seen = []
    pool = kernels._pool
    monkeypatch.setattr(kernels, "_pool", lambda *of: seen.append(of[1]) or pool(*of))
    alone = results(1)
    assert not seen
    torch.testing.assert_close(results(3), alone)
    assert set(seen) == {3}
