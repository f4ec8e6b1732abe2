"""The block's own derivatives, against finite differences and against autograd's of the same block."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from metavision.backbones.conv4 import Conv4
from metavision.nn import functional
from metavision.nn.block import block
from metavision.nn.functional import initial
from metavision.nn.modes import Modes, under
from metavision.seeds import generator
from metavision.types import Inputs, P

pytestmark = pytest.mark.usefixtures("float64")


def inputs(channels: int, side: int) -> list[Tensor]:
    """Images, weights, scales of both signs, shifts."""
    draw = torch.Generator().manual_seed(0)
    shapes = [(3, channels, side, side), (4, channels, 3, 3), (4,), (4,)]
    x, weight, scale, shift = (torch.randn(*shape, generator=draw) for shape in shapes)
    return [t.requires_grad_() for t in (x, weight, torch.tensor([1.0, -0.7, 0.3, -1.2]) * scale.abs(), shift)]


@pytest.mark.parametrize(("stride", "pool"), [(1, True), (2, False), (1, False)])
@pytest.mark.parametrize("side", [6, 7])
@pytest.mark.parametrize("channels", [1, 2])
def test_derivatives_are_the_slopes(stride: int, pool: bool, side: int, channels: int) -> None:
    given = inputs(channels, side)

    def function(*tensors: Tensor) -> Tensor:
        return block(*tensors, stride=stride, pool=pool)

    assert gradcheck(function, given) and gradgradcheck(function, given)
    image = given[0].detach()  # of a first layer, to which nothing flows back
    assert gradgradcheck(lambda *rest: function(image, *rest), given[1:])


@pytest.mark.parametrize("downsample", ["pool", "stride"])
def test_it_is_the_block_that_it_stands_for(downsample: str) -> None:
    net = Conv4((1, 28, 28), filters=4, norm="batch", downsample=downsample)
    params = initial(net, generator("block"))
    params = {name: p - 1.5 if name.endswith("norms.1.weight") else p for name, p in params.items()}  # negative ones
    x = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(1)).round(decimals=1)  # with equal neighbours
    found = [second(net, params, x, explicit=explicit) for explicit in (False, True)]
    for name, expected in found[0].items():
        torch.testing.assert_close(found[1][name], expected, rtol=1e-9, atol=1e-11)


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
