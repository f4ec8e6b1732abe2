"""The four-block convolutional network of few-shot learning."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from metavision.backbones.base import Backbone
from metavision.errors import InputError
from metavision.nn import block
from metavision.nn.normalisation import Policy, normalisation

BLOCKS = 4


class Conv4(Backbone):
    """Four blocks of 3x3 convolution, normalisation, ReLU and halving.

    Reference:
        Matching Networks for One Shot Learning (Vinyals et al., 2016), https://arxiv.org/abs/1606.04080, with
        max-pooling; Model-Agnostic Meta-Learning (Finn et al., 2017), https://arxiv.org/abs/1703.03400, whose Omniglot
        net takes strides of 2 in their place and averages the last map over its pixels; Rethinking Few-Shot Image
        Classification (Tian et al., 2020), https://arxiv.org/abs/2003.11539, whose net pools three times and averages.

    Args:
        shape: (C, H, W) of the images.
        filters: channels of every block; 64 in most papers, 32 in MAML's mini-ImageNet.
        norm: normalisation policy.
        downsample: `pool` halves by 2x2 max-pooling, `stride` by the convolution.
        pools: how many blocks halve where `downsample` is `pool`; relation networks keep the last maps larger.
        average: whether the last map is averaged over its pixels, or flattened.
    """

    def __init__(
        self,
        shape: Sequence[int],
        filters: int = 64,
        norm: Policy = "running",
        downsample: Literal["pool", "stride"] = "pool",
        pools: int = BLOCKS,
        average: bool = False,
    ) -> None:
        super().__init__()
        channels, height, width = shape
        if not 0 <= pools <= BLOCKS:
            raise InputError(f"backbone.pools is {pools}; conv4 has {BLOCKS} blocks")
        if downsample == "pool" and min(height, width) < 2**pools:
            raise InputError(
                f"conv4 halves {pools} times, so it needs images of {2**pools} pixels, not {height}x{width}"
            )
        self.norm = norm
        self.pool, self.pools = downsample == "pool", pools
        self.average = average
        inputs = [channels] + [filters] * (BLOCKS - 1)
        biased = norm not in ("batch", "running")  # which take any offset out again
        self.convs = nn.ModuleList(
            nn.Conv2d(n, filters, 3, 1 if self.pool else 2, padding=1, bias=biased) for n in inputs
        )
        self.norms = nn.ModuleList(normalisation(norm, filters) for _ in inputs)
        sides = (n // 2**pools if self.pool else math.ceil(n / 2**BLOCKS) for n in (height, width))
        self.map = (filters, 1, 1) if average else (filters, *sides)
        self.features = math.prod(self.map)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = self._block(x, mask, conv, norm, pool=self.pool and i < self.pools)
        return x.mean((2, 3)) if self.average else x.flatten(1)

    def _block(self, x: Tensor, mask: Tensor | None, conv: Any, norm: Any, *, pool: bool) -> Tensor:
        if block.applies(x, conv, norm, mask):
            return block.block(x, conv.weight, norm.weight, norm.bias, stride=conv.stride[0], pool=pool)
        x = norm(conv(x), mask)
        return F.relu(F.max_pool2d(x, 2) if pool else x)  # in this order, which leaves the ReLU a quarter of the work
