"""Wide residual networks."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from metavision.backbones.base import Backbone
from metavision.errors import InputError
from metavision.nn.conv import Conv
from metavision.nn.normalisation import Policy, normalisation

STAGES = (16, 32, 64)


class WideResNet(Backbone):
    """A stem and three stages of pre-activated blocks, the channels multiplied by a width: WRN-28-10.

    Reference:
        Wide Residual Networks (Zagoruyko and Komodakis, 2016), https://arxiv.org/abs/1605.07146

    Args:
        shape: (C, H, W) of the images.
        depth: layers; 6 n + 4.
        width: factor on the channels.
        norm: normalisation policy.
        stride: of the first stage; 2 for images of 80 or 84 pixels, as LEO has it.
    """

    def __init__(
        self, shape: Sequence[int], depth: int = 28, width: int = 10, norm: Policy = "running", stride: int = 1
    ) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6 or width < 1:
            raise InputError(
                f"backbone.depth={depth} and backbone.width={width}: a depth is 6 n + 4, a width at least 1"
            )
        self.norm = norm
        self.conv = Conv(shape[0], STAGES[0], 3)
        inputs, blocks = STAGES[0], []
        for stage, channels in enumerate(STAGES):
            for i in range((depth - 4) // 6):
                step = (2 if stage else stride) if i == 0 else 1
                blocks.append(_Block(inputs, channels * width, step, norm))
                inputs = channels * width
        self.blocks = nn.ModuleList(blocks)
        self.last_norm = normalisation(norm, inputs)
        self.features, self.map = inputs, (inputs, 1, 1)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.conv(x)
        for block in self.blocks:
            x = block(x, mask)
        return F.relu(self.last_norm(x, mask)).mean((2, 3))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, norm: str) -> None:
        super().__init__()
        self.norms = nn.ModuleList([normalisation(norm, inputs), normalisation(norm, outputs)])
        self.convs = nn.ModuleList([Conv(inputs, outputs, 3, stride), Conv(outputs, outputs, 3)])
        self.shortcut = Conv(inputs, outputs, 1, stride) if inputs != outputs or stride != 1 else None

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        z = F.relu(self.norms[0](x, mask))
        residual = x if self.shortcut is None else self.shortcut(z)
        z = self.convs[0](z)
        return self.convs[1](F.relu(self.norms[1](z, mask))) + residual
