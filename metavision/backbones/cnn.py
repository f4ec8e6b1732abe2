"""Small convolutional networks as introductory articles have them."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from metavision.backbones.base import Backbone
from metavision.errors import InputError
from metavision.nn.normalisation import Policy, normalisation


class Cnn(Backbone):
    """Convolutions, each with ReLU and 2x2 max-pooling, then one hidden layer.

    Args:
        shape: (C, H, W) of the images.
        channels: of each convolution.
        kernel: their size.
        stride: their stride.
        padded: whether they keep the size (before the stride).
        hidden: units of the layer behind them, which are the features.
        norm: normalisation policy, before each ReLU of a convolution; such articles have none.
    """

    def __init__(
        self,
        shape: Sequence[int],
        channels: Sequence[int],
        kernel: int = 3,
        stride: int = 1,
        padded: bool = True,
        hidden: int = 64,
        norm: Policy = "none",
    ) -> None:
        super().__init__()
        self.norm, self.features, self.map = norm, hidden, (hidden, 1, 1)
        inputs, *sides = shape
        padding = kernel // 2 if padded else 0
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        for outputs in channels:
            self.convs.append(nn.Conv2d(inputs, outputs, kernel, stride, padding))
            self.norms.append(normalisation(norm, outputs))
            inputs, sides = outputs, [((side + 2 * padding - kernel) // stride + 1) // 2 for side in sides]
        if min(sides) < 1:
            raise InputError(f"images of {shape[1]}x{shape[2]} are too small for this network: nothing is left of them")
        self.hidden = nn.Linear(inputs * sides[0] * sides[1], hidden)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.max_pool2d(F.relu(norm(conv(x), mask)), 2)
        return F.relu(self.hidden(x.flatten(1)))
