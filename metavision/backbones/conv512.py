"""The four-block network of R2D2."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metavision.backbones.base import Backbone
from metavision.errors import InputError
from metavision.nn.normalisation import Policy, normalisation

WIDTHS = (96, 192, 384, 512)
LEAK = 0.1


class Conv512(Backbone):
    """Four blocks of growing width; the maps of the last two, flattened, are the features.

    Reference:
        Meta-learning with differentiable closed-form solvers (Bertinetto et al., 2019),
        https://arxiv.org/abs/1805.08136. The last block pools by strides of 1 and has no activation.

    Args:
        shape: (C, H, W) of the images.
        norm: normalisation policy.
        drop: dropout behind the last two blocks in training, whole channels; 0.1 for mini-ImageNet, 0.4 for CIFAR-FS.
    """

    def __init__(self, shape: Sequence[int], norm: Policy = "running", drop: float = 0.1) -> None:
        super().__init__()
        channels, height, width = shape
        if min(height, width) < 16:
            raise InputError(f"conv512 needs images of 16 pixels, not {height}x{width}")
        self.norm = norm
        inputs = (channels, *WIDTHS[:-1])
        self.convs = nn.ModuleList(nn.Conv2d(n, m, 3, padding=1) for n, m in zip(inputs, WIDTHS, strict=True))
        self.norms = nn.ModuleList(normalisation(norm, m) for m in WIDTHS)
        self.drop = nn.Dropout2d(drop)
        h, w = height // 8, width // 8
        self.features = WIDTHS[2] * h * w + WIDTHS[3] * (h - 1) * (w - 1)
        self.map = (self.features, 1, 1)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        features = []
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x), mask)
            x = F.max_pool2d(F.leaky_relu(x, LEAK) if i < 3 else x, 2, 2 if i < 3 else 1)
            if i >= 2:
                x = self.drop(x)
                features.append(x.flatten(1))
        return torch.cat(features, 1)
