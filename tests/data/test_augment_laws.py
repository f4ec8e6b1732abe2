"""Laws of augmentation: whatever the member, the batch, the type and the shape."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from metavision.data.augment.base import Augmentation, Compose
from metavision.data.augment.colour import ColorJitter, RandomGrayscale
from metavision.data.augment.crop import RandomCrop, RandomResizedCrop
from metavision.data.augment.diffaugment import DiffAugment
from metavision.data.augment.erasing import RandomErasing
from metavision.data.augment.flip import RandomHorizontalFlip, RandomVerticalFlip
from metavision.data.augment.randaugment import RandAugment
from metavision.data.augment.rotation import RandomRotation
from metavision.errors import InputError
from tests.data.test_augment import FAMILY, images, numbers

MEMBERS: dict[str, Augmentation] = FAMILY | {
    "large crop": RandomCrop(24, padding=4),
    "large resized crop": RandomResizedCrop(24),
    "hue alone": ColorJitter(hue=0.5),
    "light alone": ColorJitter(brightness=0.4),
    "no jitter": ColorJitter(),
    "no operation": RandAugment(0),
    "diffaugment": DiffAugment(),
    "wide diffaugment": DiffAugment(1.0, 0.5, 1.0, 2.0, 2.0, 0.5),
    "nothing": Compose([]),
    "nested": Compose([Compose([RandomHorizontalFlip(), RandomRotation(20)]), RandomCrop(16)]),
}
SQUARE = ["crop", "resized crop", "all"]  # they cut a square as large as the image
# torchvision's sharpness and contrast sum in another order when a batch has another size: the last bit may differ.
LAST_BIT = {"randaugment": 5e-7, "strong randaugment": 5e-7}


def draw(
    name: str, n: int = 9, channels: int = 3, width: int = 20, **options: Any
) -> tuple[Augmentation, Tensor, Tensor]:
    return MEMBERS[name], images(n, channels, 20, width).to(**options), numbers(n, MEMBERS[name])


def alike(name: str, a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=LAST_BIT.get(name, 0), rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", MEMBERS)
def test_alone_is_as_in_a_batch(name: str, channels: int) -> None:
    augmentation, x, u = draw(name, channels=channels)
    together = augmentation(x.clone(), u)
    alone = [augmentation(x[i : i + 1].clone(), u[i : i + 1]) for i in range(len(x))]
    alike(name, torch.cat(alone), together)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(2))
    alike(name, augmentation(x[order], u[order]), together[order])


@pytest.mark.parametrize("name", MEMBERS)
def test_other_images_and_numbers_do_not_matter(name: str) -> None:
    augmentation, x, u = draw(name)
    before = augmentation(x.clone(), u)
    x[1:], u[1:] = 1 - x[1:], 1 - u[1:] - 2**-53
    alike(name, augmentation(x, u)[:1], before[:1])


@pytest.mark.parametrize("name", MEMBERS)
def test_there_is_no_other_randomness(name: str) -> None:
    augmentation, x, u = draw(name)
    numbers_given, state = u.clone(), torch.get_rng_state()
    first = augmentation(x.clone(), u)
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(u, numbers_given)
    torch.rand(1)
    assert torch.equal(augmentation(x.clone(), u), first)


@pytest.mark.parametrize("n", [0, 1, 9])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", MEMBERS)
def test_type_shape_and_range(name: str, dtype: torch.dtype, channels: int, n: int) -> None:
    augmentation, x, u = draw(name, n, channels, dtype=dtype)
    done = augmentation(x.clone(), u)
    side = {"small crop": 12, "large crop": 24, "large resized crop": 24, "nested": 16}.get(name, 20)
    assert done.dtype == dtype and done.shape == (n, channels, side, side) and not done.requires_grad
    assert ((done >= -1e-6) & (done <= 1 + 1e-6)).all()


@pytest.mark.parametrize("level", [0.0, 1.0])
@pytest.mark.parametrize("name", MEMBERS)
def test_black_and_white_stay_in_range(name: str, level: float) -> None:
    augmentation, x, u = draw(name)
    done = augmentation(torch.full_like(x, level), u)
    assert done.isfinite().all() and done.min() >= -1e-6 and done.max() <= 1 + 1e-6


@pytest.mark.parametrize("name", [name for name in MEMBERS if name not in SQUARE])
def test_images_need_not_be_square(name: str) -> None:
    augmentation, x, u = draw(name, width=26)
    done = augmentation(x.clone(), u)
    alike(name, augmentation(x[3:4].clone(), u[3:4]), done[3:4])
    assert done.shape[-1] == done.shape[-2] or done.shape == x.shape


@pytest.mark.parametrize("name", SQUARE)
def test_an_image_that_is_not_square_needs_a_size(name: str) -> None:
    augmentation, x, u = draw(name, width=26)
    with pytest.raises(InputError, match="20 x 26"):
        augmentation(x, u)


@pytest.mark.parametrize("name", MEMBERS)
def test_order_in_memory_does_not_matter(name: str) -> None:
    augmentation, x, u = draw(name)
    strided = x.clone().to(memory_format=torch.channels_last)
    torch.testing.assert_close(augmentation(strided, u), augmentation(x, u), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["jitter", "jitter with hue", "hue alone"])
def test_grey_images_have_no_colour(name: str) -> None:
    """Colours drawn anew change nothing."""
    augmentation, x, u = draw(name, channels=1)
    kinds = augmentation.draws // 2
    other = u.clone()
    other[:, 2:kinds] = 1 - u[:, 2:kinds]
    assert torch.equal(augmentation(x.clone(), u), augmentation(x.clone(), other))


@pytest.mark.parametrize("name", ["nothing", "no operation", "no jitter"])
def test_nothing_asked_for_is_nothing_done(name: str) -> None:
    augmentation, x, u = draw(name)
    torch.testing.assert_close(augmentation(x.clone(), u), x, atol=1e-6, rtol=0)


@pytest.mark.parametrize("p", [0.0, 1.0])
@pytest.mark.parametrize("make", [RandomHorizontalFlip, RandomVerticalFlip, RandomGrayscale, RandomErasing])
def test_never_and_always(make: Callable[[float], Augmentation], p: float) -> None:
    x = images(50)
    done = make(p)(x.clone(), numbers(50, make(p)))
    assert ((done != x).flatten(1).any(1) == bool(p)).all()


def test_composition_gives_each_its_own_numbers() -> None:
    crop, jitter, flip = RandomCrop(12, padding=1), ColorJitter(0.4, 0.4, 0.4), RandomHorizontalFlip()
    both, x = Compose([crop, jitter, flip]), images()
    u = numbers(len(x), both)
    first, second = crop.draws, crop.draws + jitter.draws
    assert both.draws == second + flip.draws
    expected = flip(jitter(crop(x, u[:, :first]), u[:, first:second]), u[:, second:])
    assert torch.equal(both(x.clone(), u), expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomCrop(-3),
        lambda: RandomCrop(12, padding=-1),
        lambda: RandomResizedCrop(0),
        lambda: RandomResizedCrop(-4),
        lambda: RandomResizedCrop(scale=(math.nan, 1)),
        lambda: RandomResizedCrop(scale=(-0.1, 1)),
        lambda: RandomResizedCrop(scale=(0.5,)),
        lambda: RandomResizedCrop(ratio=(0, 1)),
        lambda: RandomResizedCrop(ratio=(1, math.inf)),
        lambda: RandomHorizontalFlip(math.nan),
        lambda: RandomVerticalFlip(-0.1),
        lambda: RandomGrayscale(2),
        lambda: ColorJitter(brightness=math.nan),
        lambda: ColorJitter(contrast=math.inf),
        lambda: ColorJitter(saturation=-1),
        lambda: ColorJitter(hue=math.nan),
        lambda: ColorJitter(hue=-0.1),
        lambda: RandomRotation(math.nan),
        lambda: RandomRotation(math.inf),
        lambda: RandomErasing(1.1),
        lambda: RandomErasing(value=2),
        lambda: RandomErasing(ratio=(3, 1)),
        lambda: RandomErasing(ratio=(1, math.inf)),
        lambda: RandAugment(-1),
        lambda: RandAugment(magnitude=-1),
        lambda: RandAugment(num_magnitude_bins=9),
        lambda: RandAugment(magnitude=0, num_magnitude_bins=1),
    ],
)
def test_impossible_options_are_one_line(make: Callable[[], object]) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value) and "\n" not in str(caught.value)
