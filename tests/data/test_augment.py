"""Augmentation: torchvision, image by image, as oracle; and laws over the whole family."""

import math
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from metavision.data.augment.base import Augmentation, Compose
from metavision.data.augment.colour import ColorJitter, RandomGrayscale
from metavision.data.augment.crop import RandomCrop, RandomResizedCrop
from metavision.data.augment.diffaugment import DiffAugment
from metavision.data.augment.erasing import RandomErasing
from metavision.data.augment.flip import RandomHorizontalFlip, RandomVerticalFlip
from metavision.data.augment.randaugment import OPERATIONS, SIGNED, RandAugment
from metavision.data.augment.rotation import RandomRotation
from metavision.data.augment.tasks import mix, turn_classes
from metavision.errors import InputError
from metavision.types import Episode
from tests.conftest import toy_tasks

FAMILY: dict[str, Augmentation] = {
    "crop": RandomCrop(padding=3),
    "small crop": RandomCrop(12),
    "resized crop": RandomResizedCrop(),
    "flip": RandomHorizontalFlip(),
    "vertical flip": RandomVerticalFlip(0.7),
    "jitter": ColorJitter(0.4, 0.4, 0.4),
    "jitter with hue": ColorJitter(0.4, 0.4, 0.4, 0.1),
    "grey": RandomGrayscale(0.5),
    "rotation": RandomRotation(30),
    "erasing": RandomErasing(0.8),
    "randaugment": RandAugment(),
    "strong randaugment": RandAugment(3, 30),
    "all": Compose([RandomCrop(padding=2), ColorJitter(0.4, 0.4, 0.4), RandomHorizontalFlip(), RandomErasing()]),
}


def images(n: int = 24, channels: int = 3, height: int = 20, width: int = 20) -> Tensor:
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(0))


def numbers(n: int, augmentation: Augmentation, seed: int = 1) -> Tensor:
    return torch.rand(n, augmentation.draws, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def oracle(augmentation: Any, x: Tensor, u: Tensor) -> list[Tensor]:
    """Image by image, by torchvision, with the parameters that the augmentation reads out of its numbers."""
    if isinstance(augmentation, RandomCrop):
        side = augmentation.size or x.shape[-1]
        padded = tv.pad(x, [augmentation.padding] * 4)
        return [tv.crop(i, *c.tolist(), side, side) for i, c in zip(padded, augmentation.corners(x, u), strict=True)]
    if isinstance(augmentation, RandomResizedCrop):
        size = [x.shape[-1]] * 2
        boxes = augmentation.boxes(x, u)
        return [tv.resized_crop(i, *box.tolist(), size, antialias=False) for i, box in zip(x, boxes, strict=True)]
    if isinstance(augmentation, RandomVerticalFlip):
        return [tv.vertical_flip(i) if draw < augmentation.p else i for i, draw in zip(x, u[:, 0], strict=True)]
    if isinstance(augmentation, RandomHorizontalFlip):
        return [tv.horizontal_flip(i) if draw < augmentation.p else i for i, draw in zip(x, u[:, 0], strict=True)]
    if isinstance(augmentation, ColorJitter):
        steps = [tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue]
        done = []
        for image, factors, order in zip(x, augmentation.factors(u), augmentation.order(u), strict=True):
            for kind in order.tolist():
                image = steps[kind](image, float(factors[kind]))  # noqa: PLW2901
            done.append(image)
        return done
    if isinstance(augmentation, RandomGrayscale):
        grey = [tv.rgb_to_grayscale(i, x.shape[1]) if x.shape[1] == 3 else i for i in x]
        return [g if draw < augmentation.p else i for i, g, draw in zip(x, grey, u[:, 0], strict=True)]
    if isinstance(augmentation, RandomRotation):
        angles = augmentation.angles(u).tolist()
        bilinear = v2.InterpolationMode.BILINEAR
        return [tv.rotate(i, angle, interpolation=bilinear) for i, angle in zip(x, angles, strict=True)]
    if isinstance(augmentation, RandomErasing):
        boxes = augmentation.boxes(x, u)
        return [tv.erase(i, *b.tolist(), torch.tensor(augmentation.value)) for i, b in zip(x, boxes, strict=True)]
    if isinstance(augmentation, RandAugment):
        return [
            _randaugmented(augmentation, image, *choice)
            for image, *choice in zip(x, *augmentation.choices(u), strict=True)
        ]
    assert isinstance(augmentation, Compose)
    done = list(x)
    for step, own in zip(augmentation.steps, u.split([step.draws for step in augmentation.steps], 1), strict=True):
        done = [oracle(step, image[None], draw[None])[0] for image, draw in zip(done, own, strict=True)]
    return done


def _randaugmented(augmentation: RandAugment, image: Tensor, operations: Tensor, signs: Tensor) -> Tensor:
    """By torchvision's own table of operations and magnitudes."""
    peer = v2.RandAugment(augmentation.num_ops, augmentation.magnitude, augmentation.num_magnitude_bins)
    for operation, sign in zip(operations.tolist(), signs.tolist(), strict=True):
        name = list(OPERATIONS)[operation]
        magnitudes, signed = peer._AUGMENTATION_SPACE[name]
        assert signed == (name in SIGNED)
        values = magnitudes(augmentation.num_magnitude_bins, *image.shape[-2:])
        magnitude = 0.0 if values is None else float(values[augmentation.magnitude])
        image = peer._apply_image_or_video_transform(
            image, name, magnitude * (sign if signed else 1), peer.interpolation, {torch.Tensor: None}
        )
    return image


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", FAMILY)
def test_equals_torchvision_image_by_image(name: str, channels: int) -> None:
    augmentation, x = FAMILY[name], images(40, channels)
    u = numbers(len(x), augmentation)
    ours = augmentation(x.clone(), u)
    torch.testing.assert_close(ours, torch.stack(oracle(augmentation, x, u)), atol=2e-5, rtol=0)
    assert ours.shape != x.shape or not torch.equal(ours, x) or (name == "grey" and channels == 1)


@pytest.mark.parametrize("name", ["rotation", "erasing", "jitter", "flip", "randaugment"])
def test_images_need_not_be_square(name: str) -> None:
    augmentation, x = FAMILY[name], images(12, 3, 14, 22)
    u = numbers(len(x), augmentation)
    torch.testing.assert_close(augmentation(x.clone(), u), torch.stack(oracle(augmentation, x, u)), atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", FAMILY)
def test_an_image_depends_on_its_own_numbers_alone(name: str) -> None:
    augmentation, x = FAMILY[name], images(10)
    u = numbers(10, augmentation)
    together = augmentation(x.clone(), u)
    for i in (0, 7):
        torch.testing.assert_close(augmentation(x[i : i + 1].clone(), u[i : i + 1])[0], together[i], atol=1e-6, rtol=0)
    torch.testing.assert_close(augmentation(x.flip(0), u.flip(0)).flip(0), together, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("extreme", [0.0, 1 - 2**-53])
def test_extreme_numbers_stay_in_range(name: str, extreme: float) -> None:
    augmentation, x = FAMILY[name], images(5)
    done = augmentation(x.clone(), torch.full((5, augmentation.draws), extreme, dtype=torch.float64))
    assert done.dtype == x.dtype and len(done) == 5
    assert done.min() >= -1e-6 and done.max() <= 1 + 1e-6


@pytest.mark.parametrize("channels", [1, 3])
def test_diffaugment_is_its_steps_image_by_image(channels: int) -> None:
    """With torchvision's translation, and the authors' formulas of light and colour."""
    augmentation, x = DiffAugment(p=0.7, shift=0.25), images(40, channels, 12, 20)
    u = numbers(40, augmentation)
    done = []
    for image, (changed, mirrored, bright, colour, contrast, down, across) in zip(x, u.tolist(), strict=True):
        y = tv.horizontal_flip(image) if mirrored < 0.5 else image
        y = y + 0.225 * (bright - 0.5)
        y = (y - y.mean(0, keepdim=True)) * 2 * colour + y.mean(0, keepdim=True)
        y = ((y - y.mean()) * (contrast + 0.5) + y.mean()).clamp(0, 1)
        moved = [3 - int(down * 7), 5 - int(across * 11)]  # at most 3 of 12 rows, 5 of 20 columns
        y = tv.affine(y, 0.0, [moved[1], moved[0]], 1.0, [0.0, 0.0])
        done.append(y if changed < 0.7 else image)
    torch.testing.assert_close(augmentation(x.clone(), u), torch.stack(done))


def test_offsets_and_factors_are_uniform() -> None:
    crop, x = RandomCrop(padding=3), images(4000, 1, 8, 8)
    corners = crop.corners(x, numbers(4000, crop))
    for axis in range(2):
        assert chisquare(torch.bincount(corners[:, axis], minlength=7).numpy()).pvalue > 1e-4
    jitter = ColorJitter(0.4, 2.0, 0.0, 0.1)
    factors = jitter.factors(numbers(4000, jitter))
    for column, (low, high) in enumerate([(0.6, 1.4), (0.0, 3.0), (1.0, 1.0), (-0.1, 0.1)]):
        assert low <= factors[:, column].min() and factors[:, column].max() <= high
        assert abs(float(factors[:, column].mean()) - (low + high) / 2) < 0.05
    assert len({tuple(order) for order in jitter.order(numbers(4000, jitter)).tolist()}) == math.factorial(4)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomCrop(padding=-1),
        lambda: RandomCrop(0),
        lambda: RandomHorizontalFlip(1.5),
        lambda: ColorJitter(brightness=-0.1),
        lambda: ColorJitter(hue=0.6),
        lambda: RandomRotation(-1),
        lambda: RandomErasing(scale=(0.5, 0.1)),
        lambda: RandomResizedCrop(scale=(0.1, 1.5)),
        lambda: RandAugment(magnitude=31),
        lambda: RandomCrop(30)(images(2), torch.zeros(2, 2)),
    ],
)
def test_impossible_options_are_refused(make: Any) -> None:
    with pytest.raises(InputError):
        make()


def test_turned_classes() -> None:
    episode = toy_tasks(tasks=2, way=3)
    turns = torch.tensor([[0, 1, 2], [3, 3, 0]])
    turned = turn_classes(episode.support, turns)
    for t in range(2):
        for i, label in enumerate(episode.support.y[t].tolist()):
            expected = torch.rot90(episode.support.x[t, i], int(turns[t, label]), dims=(1, 2))
            assert torch.equal(turned.x[t, i], expected)
    beside = episode.support._replace(y=torch.full_like(episode.support.y, -1))
    assert torch.equal(turn_classes(beside, turns).x, episode.support.x)
    with pytest.raises(InputError, match="square"):
        turn_classes(episode.support._replace(x=episode.support.x[..., :-1]), turns)


def test_mixed_tasks() -> None:
    a = toy_tasks(tasks=2)
    b = Episode(*(examples._replace(x=1 - examples.x) for examples in a[:2]))
    mixed = mix(a, b, torch.tensor([1.0, 0.25]))
    torch.testing.assert_close(mixed.query.x[0], a.query.x[0])
    torch.testing.assert_close(mixed.support.x[1], 0.25 * a.support.x[1] + 0.75 * b.support.x[1])
    assert torch.equal(mixed.query.y, a.query.y)
