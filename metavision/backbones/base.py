"""The contract of a backbone."""

from typing import ClassVar

from torch import Tensor, nn


class Backbone(nn.Module):
    """Images to features: (n, C, H, W) -> (n, d), called as a pure function of its parameters.

    Attributes:
        features: d.
        map: (c, h, w) with c * h * w = d, where features are a map that was flattened; (d, 1, 1) where they are none.
        norm: the normalisation policy, see `metavision.nn.normalisation`.
    """

    images: ClassVar[bool] = True  # whether it takes images, and not anything else of a shape
    features: int
    map: tuple[int, int, int]
    norm: str

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        raise NotImplementedError
