"""The contract of a backbone."""

import copy
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from metavision.backbones.preprocessing import Preprocessing


class Backbone(nn.Module):
    """Images to features: (n, C, H, W) -> (n, d), called as a pure function of its parameters.

    Attributes:
        features: d.
        map: (c, h, w) with c * h * w = d, where features are a map that was flattened; (d, 1, 1) where they are none.
        norm: the normalisation policy, see `metavision.nn.normalisation`.
        preprocessing: what a pre-trained network does with images in [0, 1] first; None: nothing.
        provenance: JSON on the weights that it begins with; None: they are drawn.
    """

    images: ClassVar[bool] = True  # whether it takes images, and not anything else of a shape
    maps: ClassVar[bool] = True  # whether vmap goes through it, and gives the right second derivatives
    preprocessing: Preprocessing | None = None
    provenance: Mapping[str, Any] | None = None
    features: int
    map: tuple[int, int, int]
    norm: str

    def normalised(self, policy: str) -> Self:
        """The same network with its layers of moments under another of their policies."""
        other = copy.deepcopy(self)
        other.norm = policy
        return other

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        raise NotImplementedError
