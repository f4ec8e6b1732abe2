"""Light and colour."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from metavision.data.augment.base import share
from metavision.errors import InputError

GREY = (0.2989, 0.587, 0.114)  # torchvision's weights of red, green and blue


@dataclass(frozen=True)
class ColorJitter:
    """Random brightness, contrast, saturation and hue, in an order that is random for every image.

    Args:
        brightness: the factor is uniform in [1 - brightness, 1 + brightness], 0 at least; likewise the next two.
        contrast: towards the mean grey of the image.
        saturation: towards grey.
        hue: the shift is uniform in [-hue, hue], in turns of the colour circle; 0.5 at most. Slow, as in torchvision.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        if min(self.brightness, self.contrast, self.saturation) < 0:
            raise InputError("brightness, contrast and saturation must not be negative")
        if not 0 <= self.hue <= 0.5:
            raise InputError(f"hue is {self.hue}; it must be from 0 to 0.5")

    @property
    def draws(self) -> int:
        return 8

    def factors(self, u: Tensor) -> Tensor:
        """(n, 4): the factors of brightness, contrast and saturation, and the shift of hue."""
        reach = torch.tensor(
            [self.brightness, self.contrast, self.saturation, self.hue], dtype=u.dtype, device=u.device
        )
        centre = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=u.dtype, device=u.device)
        low = torch.cat([(centre - reach)[:3].clamp_min(0), -reach[3:]])
        return low + (centre + reach - low) * u[:, :4]

    def order(self, u: Tensor) -> Tensor:
        """(n, 4): which of the four comes first, second, …"""
        return u[:, 4:].argsort(dim=1)

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        """Three of the four are x f + (1 - f) t, with t black, the mean grey, or the grey of each pixel.

        So each place in the order is one blend for all images, whatever comes at this place for each.
        """
        factors, order = self.factors(u).to(x.dtype), self.order(u)
        x = x.clone()
        for operation in order.unbind(1):
            f = torch.where(operation == 3, 1.0, factors.gather(1, operation[:, None])[:, 0]).view(-1, 1, 1, 1)
            grey = _grey(x)
            contrast, saturation = ((operation == kind).to(x.dtype).view(-1, 1, 1, 1) for kind in (1, 2))
            if x.shape[1] == 1:
                f, saturation = torch.where(saturation == 1, 1.0, f), torch.zeros_like(saturation)
            target = grey * saturation + grey.mean((1, 2, 3), keepdim=True) * contrast
            x.mul_(f).add_(target.mul_(1 - f)).clamp_(0, 1)
            if self.hue and x.shape[1] == 3:
                for i in (operation == 3).nonzero()[:, 0].tolist():
                    x[i] = tv.adjust_hue(x[i], float(factors[i, 3]))
        return x


@dataclass(frozen=True)
class RandomGrayscale:
    """Grey in place of colours.

    Args:
        p: chance.
    """

    p: float = 0.1

    def __post_init__(self) -> None:
        share("p", self.p)

    @property
    def draws(self) -> int:
        return 1

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        return torch.where((u < self.p).view(-1, 1, 1, 1), _grey(x).expand_as(x), x)


def _grey(x: Tensor) -> Tensor:
    """(n, 1, H, W)."""
    if x.shape[1] == 1:
        return x.clone()
    grey = x[:, :1] * GREY[0]
    return grey.add_(x[:, 1:2], alpha=GREY[1]).add_(x[:, 2:3], alpha=GREY[2])
