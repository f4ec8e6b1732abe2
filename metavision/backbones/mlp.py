"""Fully connected layers."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from metavision.backbones.base import Backbone


class Mlp(Backbone):
    """Layers with ReLU; MAML's sinusoids have two of 40.

    Args:
        shape: of an example.
        hidden: units of each layer.
    """

    images: ClassVar[bool] = False
    norm = "none"

    def __init__(self, shape: Sequence[int], hidden: Sequence[int] = (40, 40)) -> None:
        super().__init__()
        sizes = (math.prod(shape), *hidden)
        self.layers = nn.ModuleList(nn.Linear(n, m) for n, m in pairwise(sizes))
        self.features, self.map = sizes[-1], (sizes[-1], 1, 1)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: ARG002
        x = x.flatten(1)
        for layer in self.layers:
            x = F.relu(layer(x))
        return x
