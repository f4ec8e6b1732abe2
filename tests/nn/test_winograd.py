"""The gradient of a weight by Winograd's tiles, against torch's."""

import pytest
import torch
from torch import Tensor

winograd = pytest.importorskip("metavision.nn.winograd", exc_type=ModuleNotFoundError)
LAST = torch.channels_last


def maps(n: int, c: int, d: int, h: int, w: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    x, dy = (torch.randn(n, k, h, w, generator=draw, dtype=torch.float64).to(dtype) for k in (c, d))
    return dy.contiguous(memory_format=LAST), x.relu().contiguous(memory_format=LAST)


def by_torch(dy: Tensor, x: Tensor, groups: int) -> Tensor:
    weight = x.new_zeros(dy.shape[1], x.shape[1] // groups, 3, 3)
    return torch.nn.grad.conv2d_weight(x, weight.shape, dy, padding=1, groups=groups)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("sides", [(1, 1), (4, 4), (5, 8), (7, 6), (14, 3)], ids=str)
def test_it_is_the_gradient(sides: tuple[int, int], groups: int) -> None:
    dy, x = maps(3, 2 * groups, 5 * groups, *sides, torch.float64)
    torch.testing.assert_close(winograd.weight_gradient(dy, x, groups), by_torch(dy, x, groups), rtol=0, atol=1e-11)


def test_images_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    dy, x = maps(5, 3, 4, 9, 9, torch.float64)
    whole = winograd.weight_gradient(dy, x, 1)
    monkeypatch.setattr(winograd, "CACHED", 2 * 36 * 9 * 7 * 8)  # two images, so that the last part is of one
    torch.testing.assert_close(winograd.weight_gradient(dy, x, 1), whole, rtol=0, atol=1e-11)


@pytest.mark.parametrize("images", [1, 5, 25])
@pytest.mark.parametrize("side", [14, 21, 42])
def test_it_is_off_by_some_millionths_however_many_images_there_are(images: int, side: int) -> None:
    dy, x = maps(images, 32, 32, side, side, torch.float32)
    right = by_torch(dy.double(), x.double(), 1)
    assert (winograd.weight_gradient(dy, x, 1) - right).norm() <= 4e-6 * right.norm()
