"""The augmentation of supports in P>M>F."""

from dataclasses import dataclass

import torch
from torch import Tensor

from metavision.data.augment.base import share
from metavision.errors import InputError


@dataclass(frozen=True)
class DiffAugment:
    """A mirror image, other light and colours, and a small shift, of most images.

    Reference:
        Differentiable Augmentation for Data-Efficient GAN Training (Zhao et al., 2020),
        https://arxiv.org/abs/2006.10738; for supports in Pushing the Limits of Simple Pipelines for Few-Shot Learning
        (Hu et al., 2022), https://arxiv.org/abs/2204.07305, from whose code the steps are.

    Differs in that every image is left alone, and mirrored, by its own chance, where there all of a step are or none;
    and that numbers in [0, 1] stay there, where there standardised ones are not bounded. It maps over tasks.

    Args:
        p: chance that an image is changed at all.
        flip: then, that it is mirrored.
        brightness: what is added is uniform in [-brightness / 2, brightness / 2]; there 1, of images whose deviation
            is 1, which is about 0.225 of photographs.
        saturation: the distance to the mean of a pixel's channels is multiplied by a number in [0, 2 saturation].
        contrast: that to the mean of the image by one in [contrast - 1/2, contrast + 1/2].
        shift: greatest share of a side that it is moved by; what comes from outside is 0.
    """

    p: float = 0.9
    flip: float = 0.5
    brightness: float = 0.225
    saturation: float = 1.0
    contrast: float = 1.0
    shift: float = 0.125

    def __post_init__(self) -> None:
        for name in ("p", "flip", "shift"):
            share(name, getattr(self, name))
        if not (self.brightness >= 0 and self.saturation >= 0 and self.contrast >= 0.5):
            raise InputError(
                f"brightness={self.brightness} and saturation={self.saturation} must not be negative, "
                f"contrast={self.contrast} must be at least 0.5"
            )

    @property
    def draws(self) -> int:
        return 7

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        changed, mirrored, bright, colour, contrast, down, across = u.to(x.dtype).view(*u.shape, 1, 1, 1).unbind(1)
        y = torch.where(mirrored < self.flip, x.flip(-1), x)
        y = y + self.brightness * (bright - 0.5)
        y = _about(y, y.mean(1, keepdim=True), 2 * self.saturation * colour)
        y = _about(y, y.mean((1, 2, 3), keepdim=True), self.contrast - 0.5 + contrast)
        y = self._shifted(y.clamp(0, 1), down, across)
        return torch.where(changed < self.p, y, x)

    def _shifted(self, x: Tensor, down: Tensor, across: Tensor) -> Tensor:
        """Rows, then columns, come from elsewhere."""
        for axis, u in ((2, down), (3, across)):
            side = x.shape[axis]
            most = int(side * self.shift + 0.5)
            shape = [1, 1, 1, 1]
            shape[axis] = side
            source = torch.arange(side, device=x.device).view(shape) + (u * (2 * most + 1)).long() - most
            inside = (source >= 0) & (source < side)
            x = torch.where(inside, x.gather(axis, source.clamp(0, side - 1).expand_as(x)), 0)
        return x


def _about(x: Tensor, middle: Tensor, factor: Tensor) -> Tensor:
    """The distance to a middle, multiplied."""
    return (x - middle) * factor + middle
