"""Backbones: published numbers of parameters, and features as announced."""

import pytest
import torch

from metavision import build
from metavision.backbones.base import Backbone
from metavision.errors import InputError
from tests.algorithms.builds import composed


def backbone(words: str, shape: tuple[int, int, int]) -> Backbone:
    return build.make(composed(*words.split())["backbone"], shape=shape)


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ("backbone=cnn2", 8_475_530),
        ("backbone=cnn1", 924_106),
        ("backbone=cnn2_strided", 327_114),
        ("backbone=cnn2_strided backbone.padded=false", 130_506),
    ],
)
def test_tutorials_networks_have_the_published_number_of_parameters(words: str, count: int) -> None:
    """With ten outputs, on 32x32 RGB."""
    made = backbone(words, (3, 32, 32))
    head = torch.nn.Linear(made.features, 10)
    assert sum(p.numel() for module in (made, head) for p in module.parameters()) == count


@pytest.mark.parametrize("name", ["cnn1", "cnn2", "cnn2_strided", "conv4", "pixels"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 84, 84)])
def test_features_are_as_many_as_announced(name: str, shape: tuple[int, int, int]) -> None:
    made = backbone(f"backbone={name}", shape)
    assert made(torch.rand(2, *shape)).shape == (2, made.features)


def test_images_too_small_are_refused() -> None:
    with pytest.raises(InputError, match="images of 4x4 are too small"):
        backbone("backbone=cnn2_strided backbone.padded=false", (3, 4, 4))
