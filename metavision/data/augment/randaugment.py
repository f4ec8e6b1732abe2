"""RandAugment."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from metavision.errors import InputError

Operation = Callable[[Tensor, float], Tensor]


def _affine(x: Tensor, *, across: float = 0, down: float = 0, shear: tuple[float, float] | None = None) -> Tensor:
    angles = [math.degrees(math.atan(s)) for s in shear or (0.0, 0.0)]
    centre = [0.0, 0.0] if shear else None  # the paper's authors shear about the corner
    return tv.affine(
        x, 0.0, [int(across), int(down)], 1.0, angles, interpolation=InterpolationMode.NEAREST, center=centre
    )


# Each on a batch with one magnitude, by torchvision's public functions, with its parameters.
SIGNED: dict[str, Operation] = {
    "ShearX": lambda x, m: _affine(x, shear=(m, 0.0)),
    "ShearY": lambda x, m: _affine(x, shear=(0.0, m)),
    "TranslateX": lambda x, m: _affine(x, across=m),
    "TranslateY": lambda x, m: _affine(x, down=m),
    "Rotate": lambda x, m: tv.rotate(x, m, interpolation=InterpolationMode.NEAREST),
    "Brightness": lambda x, m: tv.adjust_brightness(x, 1 + m),
    "Color": lambda x, m: tv.adjust_saturation(x, 1 + m),
    "Contrast": lambda x, m: tv.adjust_contrast(x, 1 + m),
    "Sharpness": lambda x, m: tv.adjust_sharpness(x, 1 + m),
}
UNSIGNED: dict[str, Operation] = {
    "Identity": lambda x, m: x,  # noqa: ARG005
    "Posterize": lambda x, m: tv.posterize(x, int(m)),
    "Solarize": tv.solarize,
    "AutoContrast": lambda x, m: tv.autocontrast(x),  # noqa: ARG005
    "Equalize": lambda x, m: tv.equalize(x),  # noqa: ARG005
}
OPERATIONS = SIGNED | UNSIGNED


@dataclass(frozen=True)
class RandAugment:
    """Some operations at random, all of one strength.

    Reference:
        RandAugment: Practical automated data augmentation with a reduced search space (Cubuk et al., 2020),
        https://arxiv.org/abs/1909.13719

    Images that drew the same operation are changed together, by torchvision.

    Args:
        num_ops: operations for an image, one after another.
        magnitude: their strength, below `num_magnitude_bins`.
        num_magnitude_bins: steps on the scale of strengths.
    """

    num_ops: int = 2
    magnitude: int = 9
    num_magnitude_bins: int = 31

    def __post_init__(self) -> None:
        if self.num_ops < 0 or not 0 <= self.magnitude < self.num_magnitude_bins or self.num_magnitude_bins < 2:
            raise InputError(
                f"num_ops={self.num_ops}, magnitude={self.magnitude}: no operation can be of strength {self.magnitude} "
                f"on a scale of {self.num_magnitude_bins}"
            )

    @property
    def draws(self) -> int:
        return 2 * self.num_ops

    def strength(self, name: str, height: int, width: int) -> float:
        """The parameter of an operation at this magnitude."""
        share = self.magnitude / (self.num_magnitude_bins - 1)
        return {
            "ShearX": 0.3 * share,
            "ShearY": 0.3 * share,
            # Divided last: whole pixels must not come out as 54.99…, since the part behind the point is cut off.
            "TranslateX": 150 * width * self.magnitude / (331 * (self.num_magnitude_bins - 1)),
            "TranslateY": 150 * height * self.magnitude / (331 * (self.num_magnitude_bins - 1)),
            "Rotate": 30 * share,
            "Posterize": 8 - round(4 * share),
            "Solarize": 1 - share,
        }.get(name, 0.9 * share)

    def choices(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """(n, num_ops) each: which operation, an index into OPERATIONS; and its sign, 1 or -1."""
        operation = (u[:, : self.num_ops] * len(OPERATIONS)).long()
        return operation, torch.where(u[:, self.num_ops :] < 0.5, -1, 1)

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        operations, signs = self.choices(u)
        signs = torch.where(operations < len(SIGNED), signs, 1)
        for operation, sign in zip(operations.unbind(1), signs.unbind(1), strict=True):
            changed = x.clone()
            for group in (operation * 2 + (sign > 0)).unique().tolist():
                name = list(OPERATIONS)[group // 2]
                mine = (operation == group // 2) & (sign == (1 if group % 2 else -1))
                strength = self.strength(name, *x.shape[-2:]) * (1 if group % 2 else -1)
                changed[mine] = OPERATIONS[name](x[mine], strength)
            x = changed
        return x
