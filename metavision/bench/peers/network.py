"""The network of peers, as their users write it: torch's own layers in torch's own layout."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metavision.bench.work import Work
from metavision.types import Meta

BLOCKS = 4


class Body(nn.Module):
    """Conv4: convolution with offsets, BatchNorm, ReLU, and max-pooling or strides of 2. (n, C, H, W) -> (n, d)."""

    def __init__(self, channels: int, filters: int, *, pool: bool) -> None:
        super().__init__()
        self.pool = pool
        inputs = [channels] + [filters] * (BLOCKS - 1)
        self.convs = nn.ModuleList(nn.Conv2d(n, filters, 3, 1 if pool else 2, padding=1) for n in inputs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(filters) for _ in inputs)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x)))
            if self.pool:
                x = F.max_pool2d(x, 2)
        return x.flatten(1) if self.pool else x.mean((2, 3))


class Network(nn.Module):
    """Body and head, with our weights.

    Where ours has no offsets before a norm, theirs begin at zero and have a gradient of zero. With statistics among
    the buffers it is in evaluation mode, as ours then is.
    """

    def __init__(self, work: Work, meta: Meta, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.backbone = Body(work.shape[0], work.filters, pool=work.downsample == "pool")
        self.head: nn.Module = nn.Identity()
        if work.method != "protonet":
            outputs, features = meta.params["head.weight"].shape
            self.head = nn.Linear(features, outputs)
        self.to(device, dtype)
        for name, p in self.named_parameters():
            if name not in meta.params:
                nn.init.zeros_(p)
        renamed = {
            name.replace(".mean", ".running_mean").replace(".var", ".running_var"): t
            for name, t in meta.buffers.items()
        }
        _, unknown = self.load_state_dict({**meta.params, **renamed}, strict=False)
        if unknown:
            raise ValueError(f"the network of peers has no {', '.join(unknown)}")
        self.train(not meta.buffers)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))
