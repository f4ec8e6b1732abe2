"""Light and colour."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from metavision.data import transfer
from metavision.data.augment.base import share
from metavision.errors import InputError

CONTRAST, SATURATION, HUE = 1, 2, 3  # after brightness, in the order of the options
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
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}; it must be finite and not negative")
        if not 0 <= self.hue <= 0.5:
            raise InputError(f"hue is {self.hue}; it must be from 0 to 0.5")

    @property
    def draws(self) -> int:
        return 2 * self._kinds

    @property
    def _kinds(self) -> int:
        return 4 if self.hue else 3

    def factors(self, u: Tensor) -> Tensor:
        """(n, 3 or 4): the factors of brightness, contrast and saturation, and the shift of hue if there is any."""
        reach = torch.tensor([self.brightness, self.contrast, self.saturation, self.hue], dtype=u.dtype)
        centre = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=u.dtype)
        low = torch.cat([(centre - reach)[:3].clamp_min(0), -reach[3:]])
        n = self._kinds
        room = (centre + reach - low)[:n]
        return transfer.to(u.device, low[:n]) + transfer.to(u.device, room) * u[:, :n]

    def order(self, u: Tensor) -> Tensor:
        """(n, 3 or 4): which of these comes first, second, …"""
        return u[:, self._kinds :].argsort(dim=1)

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        """Three of the four are x f + (1 - f) t, with t black, the mean grey, or the grey of each pixel.

        So each place in the order is one blend for all images, whatever comes at this place for each.
        """
        factors, order = self.factors(u).to(x.dtype), self.order(u)
        for kind in order.unbind(1):
            f = factors.gather(1, kind[:, None])[:, 0]
            f = torch.where(kind == HUE, 1, f) if self.hue else f
            f = torch.where(kind == SATURATION, 1, f) if x.shape[1] == 1 else f  # grey images have none
            rest = 1 - f
            grey = _grey(x)
            mean = grey.mean((1, 2, 3)) * rest * (kind == CONTRAST)
            grey.mul_(_column(rest * (kind == SATURATION))).add_(_column(mean))
            x = x.mul_(_column(f)).add_(grey).clamp_(0, 1)
            if self.hue and x.shape[1] == 3:
                for i in (kind == HUE).nonzero()[:, 0].tolist():
                    x[i] = tv.adjust_hue(x[i], float(factors[i, HUE]))
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
        return torch.where(_column(u < self.p), _grey(x).expand_as(x), x)


def _column(values: Tensor) -> Tensor:
    """(n,) -> (n, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)


def _grey(x: Tensor) -> Tensor:
    """(n, 1, H, W)."""
    if x.shape[1] == 1:
        return x.clone()
    grey = x[:, :1] * GREY[0]
    return grey.add_(x[:, 1:2], alpha=GREY[1]).add_(x[:, 2:3], alpha=GREY[2])
