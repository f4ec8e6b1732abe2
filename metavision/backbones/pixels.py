"""No network: the pixels are the features."""

import math
from collections.abc import Sequence

from torch import Tensor

from metavision.backbones.base import Backbone


class Pixels(Backbone):
    """Flattens images, so that a metric method on it is the baseline every network must beat."""

    norm = "none"

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.features = math.prod(shape)
        self.map = (shape[0], shape[1], shape[2])

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: ARG002
        return x.flatten(1)
