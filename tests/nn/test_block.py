"""The block's own derivatives, against finite differences and against autograd's of the same block."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from metavision.backbones.conv4 import Conv4
from metavision.nn import functional
from metavision.nn.block import block
from metavision.nn.functional import initial
from metavision.nn.gradient import gradient
from metavision.nn.modes import Modes, under
from metavision.nn.normalisation import EPSILON
from metavision.seeds import generator
from metavision.types import Inputs, P

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture(params=["compiled", "plain"])
def passes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a CPU, and those of other devices."""
    module = pytest.importorskip(f"metavision.nn.{request.param}", exc_type=ModuleNotFoundError)
    monkeypatch.setattr("metavision.nn.block._passes", lambda _: module)


def inputs(channels: int, side: int) -> list[Tensor]:
    """Images, weights, scales of both signs, shifts."""
    draw = torch.Generator().manual_seed(0)
    shapes = [(3, channels, side, side), (4, channels, 3, 3), (4,), (4,)]
    x, weight, scale, shift = (torch.randn(*shape, generator=draw) for shape in shapes)
    return [t.requires_grad_() for t in (x, weight, torch.tensor([1.0, -0.7, 0.3, -1.2]) * scale.abs(), shift)]


@pytest.mark.parametrize(
    ("channels", "side", "stride", "pool"),
    [
        (1, 7, 1, True),
        (2, 6, 2, False),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [(1, 6, 1, True), (2, 6, 1, True), (2, 7, 1, True), (1, 7, 2, False), (2, 7, 1, False)]
        ),
    ],
)
@pytest.mark.usefixtures("passes")
def test_derivatives_are_the_slopes(channels: int, side: int, stride: int, pool: bool) -> None:
    given = inputs(channels, side)

    def function(*tensors: Tensor) -> Tensor:
        return block(*tensors, stride=stride, pool=pool)

    assert gradcheck(function, given) and gradgradcheck(function, given)
    image = given[0].detach()  # of a first layer, to which nothing flows back
    assert gradgradcheck(lambda *rest: function(image, *rest), given[1:])


@pytest.mark.usefixtures("passes")
@pytest.mark.parametrize(("downsample", "cached"), [("pool", None), ("stride", None), ("pool", 1), ("stride", 12_544)])
def test_it_is_the_block_that_it_stands_for(
    downsample: str, cached: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first layer as a whole, and one image or two at a time."""
    monkeypatch.setattr("metavision.nn.block.CACHED", cached or 2**30)
    net = Conv4((1, 28, 28), filters=4, norm="batch", downsample=downsample)
    params = initial(net, generator("block"))
    params = {name: p - 1.5 if name.endswith("norms.1.weight") else p for name, p in params.items()}  # negative ones
    x = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(1)).round(decimals=1)  # with equal neighbours
    found = [second(net, params, x, explicit=explicit) for explicit in (False, True)]
    for name, expected in found[0].items():
        torch.testing.assert_close(found[1][name], expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("images", [1, 2, 5])
def test_a_first_layer_goes_a_few_images_at_a_time(images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = pytest.importorskip("metavision.nn.compiled", exc_type=ModuleNotFoundError)
    monkeypatch.setattr("metavision.nn.block.CACHED", images * 4 * 8 * 8 * 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    made, whole = [], passes.spread
    monkeypatch.setattr(passes, "spread", lambda *given: made.append(given[3].shape[0]) or whole(*given))
    net = Conv4((2, 8, 8), filters=4, norm="batch", pools=1)
    params = initial(net, generator("block"))
    x = torch.randn(5, 2, 8, 8, generator=torch.Generator().manual_seed(4))
    found = []
    for explicit in (False, True):
        with under(Modes(explicit=explicit)):
            found.append(gradient(lambda p: functional.apply(net, p, {}, Inputs(x)).tanh().sum(), params))
    later = [5] * 3  # layers, whose inputs have a gradient, at once
    assert made == later + {1: [1] * 5, 2: [2, 2, 1], 5: [5]}[images]
    for name, expected in found[0].items():
        torch.testing.assert_close(found[1][name], expected, rtol=1e-9, atol=1e-10)


def test_nothing_is_made_for_frozen_images_and_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = pytest.importorskip("metavision.nn.compiled", exc_type=ModuleNotFoundError)
    x, weight, scale, shift = inputs(2, 6)
    out = block(x.detach(), weight.detach(), scale, shift, stride=1, pool=True)
    monkeypatch.delattr(passes, "spread")
    expected = (out > 0).double()
    ds, db = torch.autograd.grad(out.sum(), [scale, shift])
    torch.testing.assert_close(db, expected.sum((0, 2, 3)))
    torch.testing.assert_close(ds, (out - expected * shift.view(-1, 1, 1)).sum((0, 2, 3)) / scale)


@pytest.mark.parametrize(("tasks", "processor"), [(None, "AVX2"), (2, "AVX2"), (None, "AVX512")])
def test_wide_maps_take_tiles_by_avx2(tasks: int | None, processor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    winograd = pytest.importorskip("metavision.nn.winograd", exc_type=ModuleNotFoundError)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: processor)
    used = []
    tiles = winograd.weight_gradient
    monkeypatch.setattr(winograd, "weight_gradient", lambda *given: used.append(given[2]) or tiles(*given))
    net = Conv4((32, 17, 19), filters=32, norm="batch", pools=1)
    params = initial(net, generator("block"))
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(tasks or 1, 3, 32, 17, 19, generator=draw)

    def slopes(params: P, x: Tensor) -> P:
        return gradient(lambda p: functional.apply(net, p, {}, Inputs(x)).tanh().sum(), params)

    found = []
    for explicit in (False, True):
        with under(Modes(explicit=explicit)):
            mapped = torch.func.vmap(slopes, (None, 0))(params, x) if tasks else slopes(params, x[0])
        found.append(mapped)
    assert used == ([tasks or 1] if processor == "AVX2" else [])
    for name, expected in found[0].items():
        torch.testing.assert_close(found[1][name], expected, rtol=1e-9, atol=1e-10)


def test_small_maps_are_not_halved() -> None:
    x, weight, scale, shift = inputs(1, 1)
    with pytest.raises((ValueError, RuntimeError), match=r"can't be halved|too small"):
        block(x, weight, scale, shift, stride=1, pool=True)


def test_large_maps_lose_no_more_digits_than_autograds_do() -> None:
    """A sum over a channel of 400,000 numbers, one after another in float32, would."""
    draw = torch.Generator().manual_seed(2)
    shapes = [(60, 2, 84, 84), (4, 2, 3, 3), (4,), (4,)]
    exact = [torch.rand(*shape, generator=draw) for shape in shapes]
    exact[0] += 2.0  # far from 0, as images are

    def slopes(given: list[Tensor], *, explicit: bool) -> list[Tensor]:
        x, weight, scale, shift = (t.clone().requires_grad_() for t in given)
        if explicit:
            out = block(x, weight, scale, shift, stride=1, pool=True)
        else:
            y = F.conv2d(x, weight, padding=1)
            mean, var = y.mean((0, 2, 3), keepdim=True), y.var((0, 2, 3), correction=0, keepdim=True)
            h = (y - mean) / (var + EPSILON).sqrt()
            out = F.max_pool2d(h * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1), 2).relu()
        (first,) = torch.autograd.grad(out.sin().sum(), weight, create_graph=True)
        return [out.detach(), first.detach(), *torch.autograd.grad(first.square().sum(), [weight, scale])]

    right = slopes(exact, explicit=False)

    def off(*, explicit: bool) -> list[float]:
        found = slopes([t.float() for t in exact], explicit=explicit)
        return [float((a - b).norm() / b.norm()) for a, b in zip(found, right, strict=True)]

    for ours, plain in zip(off(explicit=True), off(explicit=False), strict=True):
        assert ours <= 3 * plain + 1e-6


def second(net: Conv4, params: P, x: Tensor, *, explicit: bool) -> P:
    """Output, and the gradient of the gradient's squares."""
    leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
    with under(Modes(explicit=explicit)):
        z = functional.apply(net, leaves, {}, Inputs(x))
        slopes = torch.autograd.grad(z.tanh().square().sum(), list(leaves.values()), create_graph=True)
        squares = torch.stack([slope.square().sum() for slope in slopes]).sum()
        curved = torch.autograd.grad(squares, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return {"features": z.detach(), **dict(zip(leaves, curved, strict=True))}


def test_a_third_derivative_is_refused() -> None:
    given = inputs(1, 6)
    out = block(*given, stride=1, pool=True).square().sum()
    first = torch.autograd.grad(out, given, create_graph=True)
    twice = torch.autograd.grad(first[1].square().sum(), given, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        twice[1].sum().backward()
