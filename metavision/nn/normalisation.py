"""Normalisation as an explicit policy, because it decides whether a result is transductive.

| policy    | moments come from                                    | queries see each other |
|-----------|------------------------------------------------------|------------------------|
| `batch`   | whatever is normalised together, always              | yes: transductive      |
| `running` | the batch in training, calibrated statistics after   | no, once calibrated    |
| `group`   | each image alone (Wu and He, 2018)                    | no                     |
| `none`    | nowhere                                              | no                     |
| `stored`  | pre-trained weights came with them, always           | no                     |
| `layer`   | each image alone, in the layers of a transformer     | no                     |
| `support` | in evaluation alone: the batch, but for queries those of their support | no   |
| `each`    | in evaluation alone: the batch, which a query shares with its support | no     |

The usual MAML implementations use `batch`, which lets one query help another; its accuracy collapses when queries
come one at a time (TaskNorm: Rethinking Batch Normalization for Meta-Learning, Bronskill et al., 2020,
https://arxiv.org/abs/2003.03284). So the policy is named in every result.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metavision.errors import InputError, suggestion
from metavision.nn import shared

Policy = Literal["batch", "running", "group", "none"]
EPSILON = 1e-5


class Norm(nn.Module):
    """An affine normalisation of (n, C, H, W); a mask (n,) keeps padding out of the moments.

    Statistics are buffers that start as None. A forward pass without them normalises with the moments of its own
    batch, one with them uses them: a pure function of (params, buffers, x), with no training flag.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.mean: Tensor | None
        self.var: Tensor | None
        self.register_buffer("mean", None)
        self.register_buffer("var", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.mean is not None:
            return F.batch_norm(x, self.mean, self.var, self.weight, self.bias, training=False, eps=EPSILON)
        # Not F.batch_norm: under vmap its second derivative is wrong by a percent (torch 2.11), without a warning.
        mean, var = moments(x, mask)
        shape = (1, -1, 1, 1)
        scale = self.weight * torch.rsqrt(var + EPSILON)
        return x * scale.view(shape) + (self.bias - mean * scale).view(shape)


class GroupNorm(nn.GroupNorm):
    """Group normalisation with at most 8 groups; it takes the mask of `Norm` and needs none."""

    def __init__(self, channels: int) -> None:
        super().__init__(next(groups for groups in (8, 4, 2, 1) if channels % groups == 0), channels)
        self.channels = channels

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: ARG002 - each image alone
        return super().forward(x)


class LayerNorm(nn.LayerNorm):
    """Layer normalisation over the last axis, written out.

    Under vmap the second derivative of F.layer_norm is wrong (torch 2.11), without a warning.
    """

    def forward(self, x: Tensor) -> Tensor:
        var, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
        return (x - mean) * torch.rsqrt(var + self.eps) * self.weight + self.bias


class NoNorm(nn.Module):
    """No normalisation, in the place of one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: ARG002
        return x


def moments(x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over images and pixels of the unmasked rows of (n, C, H, W): two (C,)."""
    if mask is None:
        if (total := shared.total()) is not None:
            return shared.moments(x, total)
        mean = x.mean((0, 2, 3))
        # Not torch.var_mean, which takes thirty times as long on a CPU.
        return mean, (x - mean.view(1, -1, 1, 1)).square().mean((0, 2, 3))
    wide = torch.promote_types(x.dtype, torch.float32)  # counts above 256 are not whole in bfloat16
    weight = mask.to(x.dtype).view(-1, 1, 1, 1)
    count = weight.sum(dtype=wide) * x.shape[2] * x.shape[3]
    mean = (x * weight).sum((0, 2, 3), dtype=wide) / count
    var = ((x - mean.view(1, -1, 1, 1)).square() * weight).sum((0, 2, 3)) / count
    return mean, var


def normalisation(policy: str, channels: int) -> nn.Module:
    """The layer of a policy."""
    if policy not in get_args(Policy):
        raise InputError(f"there is no normalisation {policy}{suggestion(policy, get_args(Policy))}")
    if policy in ("batch", "running"):
        return Norm(channels)
    return GroupNorm(channels) if policy == "group" else NoNorm(channels)
