"""Ordinary classification first, a head on frozen features afterwards."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metavision import trees
from metavision.algorithms.base import Algorithm, Mapper, Score
from metavision.errors import InputError
from metavision.nn import functional
from metavision.problems.classification import Classification
from metavision.types import Examples, Inputs, Meta, Metrics, P

EMBEDDED_TOGETHER = 128  # images


@dataclass(frozen=True, eq=False, kw_only=True)
class Pretrained(Algorithm):
    """Learns to tell the training classes apart, by batches of images; subclasses make a head of the support.

    Args:
        classes: of training.
        smoothing: of the labels in training.
        centre: take the mean feature of the training images off all features.
        unit: then divide features by their norm.
    """

    classes: int
    smoothing: float = 0.0
    centre: bool = False
    unit: bool = False

    diet: ClassVar[str] = "batches"
    frozen: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (self.classes >= 1 and 0 <= self.smoothing < 1):
            raise InputError(f"algo.smoothing={self.smoothing} must be from 0 to below 1")

    def init(self, generator: torch.Generator) -> Meta:
        params = super().init(generator).params
        with torch.random.fork_rng(devices=[]):  # a layer draws from the global generator as it is made
            classifier = nn.Linear(self.backbone.features, self.classes)
        return Meta(params | trees.under("classifier", functional.initial(classifier, generator)), {})

    def classify(self, params: P, z: Tensor) -> Tensor:
        """Logits (n, classes) of the training classes, from features (n, d) as the backbone gives them."""
        return F.linear(z, params["classifier.weight"], params["classifier.bias"])

    def score_batch(self, meta: Meta, batch: Examples) -> Score:
        """Loss and metrics of a batch of training images, whose labels are the training classes."""
        problem = Classification(self.classes)
        logits = self.classify(meta.params, self.embed(meta.params, meta.buffers, batch.inputs))
        return problem.loss(logits, batch, self.smoothing), problem.metrics(logits, batch)

    def meta_grad(self, meta: Meta, tasks: Any, mapper: Mapper) -> tuple[P, Metrics]:
        """Of the mean over T batches: x (T, B, C, H, W), y (T, B)."""
        return mapper.mean_grad(
            lambda params, batch: self.score_batch(Meta(params, meta.buffers), batch), meta.params, tasks
        )

    def features(self, meta: Meta, inputs: Inputs) -> Tensor:
        """What the head works on (n, d)."""
        z = self.embed(meta.params, meta.buffers, inputs)
        if "centre" in meta.buffers:
            z = z - meta.buffers["centre"]
        return F.normalize(z, dim=-1) if self.unit else z

    def calibrate(self, meta: Meta, x: Tensor) -> Meta:
        meta = super().calibrate(meta, x)
        if not self.centre:
            return meta
        with torch.no_grad():
            parts = x.tensor_split(math.ceil(len(x) / EMBEDDED_TOGETHER))
            z = torch.cat([self.embed(meta.params, meta.buffers, Inputs(part)) for part in parts])
        return Meta(meta.params, {**meta.buffers, "centre": z.mean(0)})
