"""Normalisation policies against torch's layers."""

import pytest
import torch
from torch import nn

from metavision.backbones.conv4 import Conv4
from metavision.errors import InputError
from metavision.nn import functional, shared
from metavision.nn.normalisation import Norm, moments, normalisation
from metavision.seeds import generator
from metavision.types import Inputs

pytestmark = pytest.mark.usefixtures("float64")


def test_without_statistics_it_is_batch_normalisation() -> None:
    x = torch.randn(6, 3, 5, 5)
    torch.testing.assert_close(Norm(3)(x), nn.BatchNorm2d(3)(x))


def test_moments_leave_padding_out() -> None:
    x, mask = torch.randn(6, 3, 5, 5), torch.tensor([1, 1, 0, 1, 0, 1], dtype=torch.bool)
    torch.testing.assert_close(moments(x, mask), moments(x[mask]))


def test_moments_of_many_numbers_in_bfloat16_are_counted_right() -> None:
    """Of 225,792 numbers: 225,280 in bfloat16; as a process has its part of a batch, and beside padding."""
    x = (2 + torch.randn(300, 2, 28, 28)).bfloat16()
    mask = torch.arange(300) < 288
    expected = moments(x[mask].double())
    for found in (moments(x, mask), shared.moments(x[mask], lambda part: part)):
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=0)


def test_calibration_is_one_pass_of_running_statistics() -> None:
    class Reference(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(
                *(
                    m
                    for i in (1, 4, 4, 4)
                    for m in (
                        nn.Conv2d(i, 4, 3, padding=1, bias=False),
                        nn.BatchNorm2d(4, momentum=1.0),
                        nn.ReLU(),
                        nn.MaxPool2d(2),
                    )
                )
            )

    backbone, reference = Conv4((1, 16, 16), filters=4), Reference().net
    params = functional.initial(backbone, generator("calibrate"))
    for i in range(4):
        reference[4 * i].weight.data = params[f"convs.{i}.weight"]
    x, other = torch.rand(30, 1, 16, 16), torch.rand(3, 1, 16, 16)
    buffers = functional.calibrate(backbone, params, x)
    with torch.no_grad():
        reference(x)
        expected = reference.eval()(other).flatten(1)
    torch.testing.assert_close(functional.apply(backbone, params, buffers, Inputs(other)), expected)


def test_calibration_in_parts_gives_the_moments_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly in the first layer, whose input does not depend on the batch; nearly in later ones."""
    backbone, x = Conv4((1, 16, 16), filters=4), torch.rand(100, 1, 16, 16)
    params = functional.initial(backbone, generator("parts"))
    whole = functional.calibrate(backbone, params, x)
    monkeypatch.setattr(functional, "CALIBRATED_TOGETHER", 30)
    parts = functional.calibrate(backbone, params, x)
    for name, expected in whole.items():
        tolerance = 1e-5 if name.startswith("norms.0") else 0.2
        torch.testing.assert_close(parts[name], expected, atol=tolerance, rtol=tolerance)


def test_unknown_policy() -> None:
    with pytest.raises(InputError, match="did you mean running"):
        normalisation("runing", 4)


@pytest.mark.parametrize(("filters", "count"), [(64, 113_088), (32, 28_896)])
def test_conv4_has_the_published_number_of_parameters(filters: int, count: int) -> None:
    """Which counts an offset for every filter; ours has none, as the normalisation would take it out again."""
    assert sum(p.numel() for p in Conv4((3, 84, 84), filters=filters).parameters()) == count - 4 * filters


@pytest.mark.parametrize(
    ("shape", "downsample", "average", "d"),
    [
        ((1, 28, 28), "pool", False, 64),
        ((1, 28, 28), "stride", True, 64),  # MAML's for Omniglot
        ((1, 28, 28), "stride", False, 256),  # Reptile's
        ((1, 28, 17), "stride", False, 256),
        ((3, 84, 84), "pool", False, 1600),
    ],
)
def test_conv4_features(shape: tuple[int, int, int], downsample: str, average: bool, d: int) -> None:
    backbone = Conv4(shape, downsample=downsample, average=average)
    assert backbone.features == d == backbone(torch.rand(2, *shape)).shape[1]
