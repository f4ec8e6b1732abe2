"""Vision transformers."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metavision.backbones.base import Backbone
from metavision.errors import InputError
from metavision.nn.normalisation import LayerNorm


class ViT(Backbone):
    """Patches as tokens, a class token, blocks of attention and two layers; the class token is the feature.

    Reference:
        An Image is Worth 16x16 Words (Dosovitskiy et al., 2021), https://arxiv.org/abs/2010.11929; the small one of
        Training data-efficient image transformers (Touvron et al., 2021), https://arxiv.org/abs/2012.12877.

    Attention is written out, since fused kernels have no second derivative, which inner loops need. Layers are
    normalised one image at a time, so it is inductive whatever `norm` says.

    Args:
        shape: (C, H, W) of the images.
        patch: side of a patch, which divides the image's.
        width: of a token.
        depth: blocks.
        heads: of the attention.
        drop: of what the blocks add, in training.
    """

    norm = "layer"

    def __init__(
        self, shape: Sequence[int], patch: int = 4, width: int = 384, depth: int = 12, heads: int = 6, drop: float = 0.0
    ) -> None:
        super().__init__()
        channels, height, side = shape
        if height % patch or side % patch:
            raise InputError(f"patches of {patch} pixels do not divide images of {height}x{side}; set backbone.patch")
        if width % heads:
            raise InputError(f"backbone.heads={heads} does not divide backbone.width={width}")
        self.features, self.map = width, (width, 1, 1)
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.tokens = _Tokens((height // patch) * (side // patch), width)
        self.blocks = nn.ModuleList(_Block(width, heads, drop) for _ in range(depth))
        self.last_norm = LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: ARG002 - each image alone
        x = self.tokens(self.patches(x).flatten(2).mT)
        for block in self.blocks:
            x = block(x)
        return self.last_norm(x)[:, 0]


class _Tokens(nn.Module):
    """The class token before the patches, and what tells each place."""

    def __init__(self, n: int, width: int) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.empty(1, 1, width))
        self.place = nn.Parameter(torch.empty(1, n + 1, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.trunc_normal_(self.start, std=0.02)
        nn.init.trunc_normal_(self.place, std=0.02)

    def forward(self, patches: Tensor) -> Tensor:
        return torch.cat([self.start.expand(patches.shape[0], -1, -1), patches], 1) + self.place


class _Linear(nn.Linear):
    def reset_parameters(self) -> None:
        nn.init.trunc_normal_(self.weight, std=0.02)
        nn.init.zeros_(self.bias)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, drop: float) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(LayerNorm(width, eps=1e-6) for _ in range(2))
        self.qkv, self.out = _Linear(width, 3 * width), _Linear(width, width)
        self.up, self.down = _Linear(width, 4 * width), _Linear(4 * width, width)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.out(self._attention(self.qkv(self.norms[0](x)))))
        return x + self.drop(self.down(F.gelu(self.up(self.norms[1](x)))))

    def _attention(self, qkv: Tensor) -> Tensor:
        n, tokens, _ = qkv.shape
        q, k, v = qkv.view(n, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # (n, heads, tokens, d)
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
        return (weights @ v).transpose(1, 2).flatten(2)
