"""Augmentation at the sizes that are used: torchvision as oracle, and the distributions of what is drawn."""

import math
from collections import Counter
from typing import Any

import pytest
import torch
from scipy.stats import binomtest, chisquare, kstest
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from metavision.data.augment.base import Augmentation, Compose
from metavision.data.augment.colour import ColorJitter, RandomGrayscale
from metavision.data.augment.crop import RandomCrop, RandomResizedCrop
from metavision.data.augment.erasing import RandomErasing
from metavision.data.augment.flip import RandomHorizontalFlip, RandomVerticalFlip
from metavision.data.augment.randaugment import OPERATIONS, SIGNED, RandAugment
from metavision.data.augment.rotation import RandomRotation
from metavision.data.augment.tasks import TURNS, mix, turn_classes
from tests.conftest import toy_tasks
from tests.data.test_augment import images, numbers, oracle

LIKELY = 1e-4  # p-values below are no chance: the seeds are fixed, so a test that passes once passes always
MANY = 6000

EXACT: dict[str, Augmentation] = {
    "crop": RandomCrop(84, padding=8),
    "crop without padding": RandomCrop(70),
    "flip": RandomHorizontalFlip(),
    "vertical flip": RandomVerticalFlip(),
    "erasing": RandomErasing(1.0, value=0.3),
}
CLOSE: dict[str, Augmentation] = {
    "resized crop": RandomResizedCrop(84),
    "jitter": ColorJitter(0.4, 0.4, 0.4),
    "strong jitter": ColorJitter(1.5, 1.5, 1.5, 0.5),
    "hue": ColorJitter(hue=0.5),
    "grey": RandomGrayscale(0.5),
    "rotation": RandomRotation(180),
    "randaugment": RandAugment(),
    "strongest randaugment": RandAugment(2, 30),
    "photographs": Compose([RandomCrop(84, padding=8), ColorJitter(0.4, 0.4, 0.4), RandomHorizontalFlip()]),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", EXACT)
def test_what_only_moves_pixels_is_exact(name: str, channels: int) -> None:
    augmentation, x = EXACT[name], images(16, channels, 84, 84)
    u = numbers(len(x), augmentation)
    assert torch.equal(augmentation(x.clone(), u), torch.stack(oracle(augmentation, x, u)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", CLOSE)
def test_what_computes_pixels_is_close(name: str, channels: int) -> None:
    """In float64, where 84 pixels of random noise leave no room for a mistake to hide behind rounding."""
    augmentation, x = CLOSE[name], images(16, channels, 84, 84).double()
    u = numbers(len(x), augmentation)
    expected = torch.stack(oracle(augmentation, x, u))
    torch.testing.assert_close(augmentation(x.clone(), u), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [16, 84, 128])
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.001, 0.02)])
def test_resized_crops_of_other_sizes(size: int, scale: tuple[float, float]) -> None:
    """Made smaller and larger, down to parts of some pixels; without antialiasing."""
    crop, x = RandomResizedCrop(size, scale, ratio=(0.2, 5)), images(16, 3, 84, 70).double()
    u = numbers(len(x), crop)
    boxes = crop.boxes(x, u).tolist()
    expected = [tv.resized_crop(i, *box, [size, size], antialias=False) for i, box in zip(x, boxes, strict=True)]
    torch.testing.assert_close(crop(x, u), torch.stack(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["crop", "crop without padding", "erasing"])
def test_what_only_moves_pixels_needs_no_square(name: str) -> None:
    augmentation, x = EXACT[name], images(16, 3, 76, 90)
    u = numbers(len(x), augmentation)
    assert torch.equal(augmentation(x.clone(), u), torch.stack(oracle(augmentation, x, u)))


@pytest.mark.parametrize("size", [28, 84, 331])  # at 331 translations are whole pixels, which must not be rounded down
@pytest.mark.parametrize("bins", [10, 31])
def test_strengths_are_those_of_torchvision(size: int, bins: int) -> None:
    space = v2.RandAugment()._AUGMENTATION_SPACE
    assert set(space) == set(OPERATIONS) and {name for name, (_, signed) in space.items() if signed} == set(SIGNED)
    whole = ("TranslateX", "TranslateY", "Posterize")
    for name, (magnitudes, _) in space.items():
        values = magnitudes(bins, size, size + 3)
        for magnitude in range(bins) if values is not None else ():
            ours, theirs = RandAugment(1, magnitude, bins).strength(name, size, size + 3), float(values[magnitude])
            assert int(ours) == int(theirs) if name in whole else math.isclose(ours, theirs, abs_tol=1e-5)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_those_of_torchvision(name: str, sign: int) -> None:
    """Each alone, chosen by its number in the middle of its interval."""
    augmentation, x = RandAugment(1, 17), images(3, 3, 40, 48)
    place = (list(OPERATIONS).index(name) + 0.5) / len(OPERATIONS)
    u = torch.tensor([[place, 0.25 if sign < 0 else 0.75]], dtype=torch.float64).expand(3, 2)
    chosen, signs = augmentation.choices(u)
    assert {list(OPERATIONS)[i] for i in chosen.flatten().tolist()} == {name} and set(signs.flatten().tolist()) == {
        sign
    }
    torch.testing.assert_close(augmentation(x.clone(), u), torch.stack(oracle(augmentation, x, u)), atol=1e-5, rtol=0)


def test_turned_classes_are_rotated_images() -> None:
    examples = toy_tasks(tasks=2, way=4).query
    turns = torch.tensor([[0, 1, 2, 3], [3, 3, 2, 1]])
    turned = turn_classes(examples, turns)
    assert torch.equal(turned.y, examples.y)
    for t in range(2):
        for image, before, label in zip(turned.x[t], examples.x[t], examples.y[t], strict=True):
            assert torch.equal(image, tv.rotate(before, 360 / TURNS * int(turns[t, label])))


def test_mixed_tasks_mix_their_classes() -> None:
    a, b = toy_tasks(tasks=2), toy_tasks(tasks=2)
    b = b._replace(support=b.support._replace(x=b.support.x.flip(0)), query=b.query._replace(x=b.query.x.flip(0)))
    weight = torch.tensor([0.3, 0.9])
    for one, other, mixed in zip(a[:2], b[:2], mix(a, b, weight)[:2], strict=True):
        assert torch.equal(mixed.y, one.y)
        for t, w in enumerate(weight.tolist()):
            torch.testing.assert_close(mixed.x[t], w * one.x[t] + (1 - w) * other.x[t])


def test_corners_are_uniform() -> None:
    crop, x = RandomCrop(10, padding=2), images(MANY, 1, 9, 12)
    corners = Counter(tuple(corner) for corner in crop.corners(x, numbers(MANY, crop)).tolist())
    assert set(corners) == {(top, left) for top in range(4) for left in range(7)}
    assert chisquare(list(corners.values())).pvalue > LIKELY


def test_rectangles_are_as_asked() -> None:
    """Where none has to be made smaller to fit, the area is uniform and so is the logarithm of the ratio."""
    crop, x = RandomResizedCrop(8, scale=(0.1, 0.4), ratio=(0.5, 2)), images(1, 1, 1000, 1000).expand(MANY, -1, -1, -1)
    top, left, height, width = crop.boxes(x, numbers(MANY, crop)).double().unbind(1)
    assert kstest((height * width / 1e6).numpy(), "uniform", args=(0.1, 0.3)).pvalue > LIKELY
    ratio = (width / height).log().numpy()
    assert kstest(ratio, "uniform", args=(-math.log(2), 2 * math.log(2))).pvalue > LIKELY
    for start, length in ((top, height), (left, width)):
        assert kstest((start / (1000 - length)).numpy(), "uniform").pvalue > LIKELY


@pytest.mark.parametrize("draw", [RandomResizedCrop(8, ratio=(0.05, 20)), RandomErasing(1.0, scale=(0, 1))])
def test_rectangles_lie_inside(draw: Any) -> None:
    x = images(MANY, 1, 11, 17)
    top, left, height, width = draw.boxes(x, numbers(MANY, draw)).unbind(1)
    assert top.min() == 0 and left.min() == 0 and height.min() >= 1 and width.min() >= 1
    assert (top + height).max() == 11 and (left + width).max() == 17


def test_factors_and_orders_are_uniform() -> None:
    jitter = ColorJitter(0.4, 2.0, 0.3, 0.1)
    u = numbers(MANY, jitter)
    for factor, (low, high) in zip(
        jitter.factors(u).unbind(1), [(0.6, 1.4), (0.0, 3.0), (0.7, 1.3), (-0.1, 0.1)], strict=True
    ):
        assert low <= factor.min() and factor.max() <= high
        assert kstest(factor.numpy(), "uniform", args=(low, high - low)).pvalue > LIKELY
    orders = Counter(tuple(order) for order in jitter.order(u).tolist())
    assert len(orders) == math.factorial(4) and chisquare(list(orders.values())).pvalue > LIKELY


@pytest.mark.parametrize(
    "augmentation", [RandomHorizontalFlip(0.3), RandomVerticalFlip(0.3), RandomGrayscale(0.3), RandomErasing(0.3)]
)
def test_shares_are_as_asked(augmentation: Augmentation) -> None:
    x = images(MANY, 3, 4, 4)
    changed = (augmentation(x.clone(), numbers(MANY, augmentation)) != x).flatten(1).any(1)
    assert binomtest(int(changed.sum()), MANY, 0.3).pvalue > LIKELY


def test_angles_are_uniform() -> None:
    rotation = RandomRotation(25)
    assert kstest(rotation.angles(numbers(MANY, rotation)).numpy(), "uniform", args=(-25, 50)).pvalue > LIKELY


def test_operations_and_signs_are_uniform() -> None:
    augmentation = RandAugment()
    operations, signs = augmentation.choices(numbers(MANY, augmentation))
    assert chisquare(operations.flatten().bincount(minlength=len(OPERATIONS)).numpy()).pvalue > LIKELY
    assert binomtest(int((signs > 0).sum()), signs.numel()).pvalue > LIKELY
    assert set(signs.flatten().tolist()) == {-1, 1}
