"""The eighteen-layer residual network."""

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from metavision.backbones.base import Backbone
from metavision.nn.conv import Conv
from metavision.nn.normalisation import Policy, normalisation

WIDTHS = (64, 128, 256, 512)


class ResNet18(Backbone):
    """A stem and four stages of two basic blocks.

    Reference:
        Deep Residual Learning for Image Recognition (He et al., 2016), https://arxiv.org/abs/1512.03385; the same
        parameters as torchvision's, without its head.

    Args:
        shape: (C, H, W) of the images.
        norm: normalisation policy.
        stem: `large`: 7x7 by strides of 2, then pooled by 2, for images of 224 pixels; `small`: 3x3, for small ones.
        pool: average the last map over its pixels; else it is flattened.
    """

    def __init__(
        self,
        shape: Sequence[int],
        norm: Policy = "running",
        stem: Literal["large", "small"] = "small",
        pool: bool = True,
    ) -> None:
        super().__init__()
        channels, height, width = shape
        self.norm, self.pool, self.large = norm, pool, stem == "large"
        self.conv = Conv(channels, 64, 7, 2) if self.large else Conv(channels, 64, 3)
        self.conv_norm = normalisation(norm, 64)
        inputs, blocks = 64, []
        for stage, outputs in enumerate(WIDTHS):
            blocks += [BasicBlock(inputs, outputs, 2 if stage else 1, norm), BasicBlock(outputs, outputs, 1, norm)]
            inputs = outputs
        self.blocks = nn.ModuleList(blocks)
        halvings = 5 if self.large else 3
        sides = (1, 1) if pool else (-(-height // 2**halvings), -(-width // 2**halvings))
        self.map = (WIDTHS[-1], *sides)
        self.features = WIDTHS[-1] * sides[0] * sides[1]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = F.relu(self.conv_norm(self.conv(x), mask))
        if self.large:
            x = F.max_pool2d(x, 3, 2, 1)
        for block in self.blocks:
            x = block(x, mask)
        return x.mean((2, 3)) if self.pool else x.flatten(1)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and what passes by them."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: str) -> None:
        super().__init__()
        self.convs = nn.ModuleList([Conv(inputs, outputs, 3, stride), Conv(outputs, outputs, 3)])
        self.norms = nn.ModuleList(normalisation(norm, outputs) for _ in range(2))
        changed = inputs != outputs or stride != 1
        self.shortcut = Conv(inputs, outputs, 1, stride) if changed else None
        self.shortcut_norm = normalisation(norm, outputs) if changed else None

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        residual = x
        if self.shortcut is not None and self.shortcut_norm is not None:
            residual = self.shortcut_norm(self.shortcut(x), mask)
        x = F.relu(self.norms[0](self.convs[0](x), mask))
        return F.relu(self.norms[1](self.convs[1](x), mask) + residual)
