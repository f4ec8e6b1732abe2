"""The twelve-layer residual network of few-shot learning."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from metavision.backbones.base import Backbone
from metavision.errors import InputError
from metavision.nn.conv import Conv
from metavision.nn.dropblock import DropBlock
from metavision.nn.normalisation import Policy, normalisation

LEAK = 0.1


class ResNet12(Backbone):
    """Four residual blocks of three 3x3 convolutions, each halving the map.

    Reference:
        Meta-Learning with Differentiable Convex Optimization (Lee et al., 2019), https://arxiv.org/abs/1904.03758, with
        widths 64-160-320-640; TADAM (Oreshkin et al., 2018), https://arxiv.org/abs/1805.10123, with 64-128-256-512.

    Differs from the authors' code in that the fraction that DropBlock drops is the same from the first step on (there
    it grows for the first 40,000), and that there is no dropout of single numbers in the first two blocks (there 0.1).

    Args:
        shape: (C, H, W) of the images.
        widths: channels of the blocks.
        norm: normalisation policy.
        dropblock: fraction that is dropped in the last two blocks in training.
        block: side of a dropped square.
        pool: average the last map over its pixels; else it is flattened.
    """

    def __init__(
        self,
        shape: Sequence[int],
        widths: Sequence[int] = (64, 160, 320, 640),
        norm: Policy = "running",
        dropblock: float = 0.1,
        block: int = 5,
        pool: bool = True,
    ) -> None:
        super().__init__()
        channels, height, width = shape
        if min(height, width) < 2 ** len(widths):
            raise InputError(
                f"resnet12 halves {len(widths)} times, so it needs images of {2 ** len(widths)} pixels, "
                f"not {height}x{width}"
            )
        if not 0 <= dropblock < 1 or block < 1:
            raise InputError(f"backbone.dropblock={dropblock} and backbone.block={block} are no fraction and no side")
        self.norm, self.pool = norm, pool
        inputs = [channels, *widths[:-1]]
        rates = [0.0] * (len(widths) - 2) + [dropblock] * 2
        self.blocks = nn.ModuleList(
            _Block(n, m, norm, rate, block) for n, m, rate in zip(inputs, widths, rates, strict=True)
        )
        sides = (1, 1) if pool else (height >> len(widths), width >> len(widths))
        self.map = (widths[-1], *sides)
        self.features = widths[-1] * sides[0] * sides[1]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.blocks:
            x = block(x, mask)
        return x.mean((2, 3)) if self.pool else x.flatten(1)


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, norm: str, rate: float, size: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(Conv(n, outputs, 3) for n in (inputs, outputs, outputs))
        self.norms = nn.ModuleList(normalisation(norm, outputs) for _ in range(3))
        self.shortcut = Conv(inputs, outputs, 1)
        self.shortcut_norm = normalisation(norm, outputs)
        self.drop = DropBlock(rate, size)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        residual = self.shortcut_norm(self.shortcut(x), mask)
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x), mask)
            x = F.leaky_relu(x if i < 2 else x + residual, LEAK)
        return self.drop(F.max_pool2d(x, 2))
