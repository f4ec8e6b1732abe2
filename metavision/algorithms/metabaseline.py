"""Meta-Baseline."""

from dataclasses import dataclass

import torch
from torch import Tensor

from metavision.algorithms.protonet import ProtoNet
from metavision.errors import InputError
from metavision.functional.distances import cosine
from metavision.types import Inputs, Meta


@dataclass(frozen=True, eq=False, kw_only=True)
class MetaBaseline(ProtoNet):
    """Cosines to class means by a learned scale, meta-trained from a pre-trained backbone.

    Reference:
        Meta-Baseline: Exploring Simple Meta-Learning for Few-Shot Learning (Chen et al., 2021),
        https://arxiv.org/abs/2003.04390. Its first stage, Classifier-Baseline, is `algo=baseline`; the second starts
        there by `init=` that run.

    `scale` is where the learned one begins.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.metric != "cosine":
            raise InputError(f"algo.metric is {self.metric}; Meta-Baseline's is the cosine")

    def init(self, generator: torch.Generator) -> Meta:
        return Meta({**super().init(generator).params, "scale": torch.tensor(float(self.scale))}, {})

    def predict(self, meta: Meta, task: Tensor, query: Inputs) -> Tensor:
        return meta.params["scale"] * cosine(self.embed(meta.params, meta.buffers, query), task)
