"""Compiled passes over maps against the same of torch's operations, and against their definition."""

import numpy as np
import pytest
import torch
from torch import Tensor

from metavision.nn import plain
from metavision.nn.block import block

compiled = pytest.importorskip("metavision.nn.compiled", exc_type=ModuleNotFoundError)
kernels = pytest.importorskip("metavision.nn.kernels")
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


@pytest.mark.parametrize("odd", [(0, 0, 0), (1, 7, 7)], ids=str)
def test_moments_of_single_precision_beside_a_number_far_from_the_others(odd: tuple[int, int, int]) -> None:
    y = drawn((50, 4, 84, 84))[0].float() * 0.01
    y[odd[0], :, odd[1], odd[2]] = 25
    mean, var = compiled.moments(y)
    torch.testing.assert_close(mean.double(), y.double().mean((0, 2, 3)), rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(var.double(), y.double().var((0, 2, 3), correction=0), rtol=1e-4, atol=1e-9)


def test_maps_of_one_number_have_no_variance() -> None:
    _, var = compiled.moments(torch.full((50, 4, 84, 84), 0.1, dtype=torch.float32).contiguous(memory_format=LAST))
    assert (var >= 0).all() and (var < 1e-12).all()


def test_no_maps_have_no_moments() -> None:
    with pytest.raises(ValueError, match="no moments"):
        compiled.moments(torch.empty(0, 3, 4, 4))


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
    monkeypatch.setattr(kernels, "_pool", lambda process: seen.append(process) or pool(process))
    alone = results(1)
    assert not seen
    torch.testing.assert_close(results(3), alone)
    assert seen


@pytest.mark.parametrize("error", [OSError("disk full"), EOFError("damaged")], ids=repr)
def test_a_disk_that_keeps_no_loops_stops_nothing(error: Exception) -> None:
    def twice(_, x: np.ndarray) -> np.ndarray:
        return 2 * x

    loop = kernels.Loop(twice)

    class Broken:
        stats = loop._run.stats

        def __call__(self, *_: object) -> None:
            raise error

    loop._run = Broken()
    assert kernels.over_images(loop, np.ones((1, 1, 1, 1)))[0] == 2 == loop((0, 1), np.ones(1))[0]
