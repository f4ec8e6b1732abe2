"""Baseline and Baseline++: a linear or cosine classifier, trained anew on the support."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad

from metavision import trees
from metavision.algorithms.pretraining import Pretrained
from metavision.errors import InputError
from metavision.functional.distances import cosine
from metavision.functional.prototypes import prototypes
from metavision.types import Examples, Inputs, Meta, P

MOMENTUM = 0.9


class Head(NamedTuple):
    """What is learned of the support."""

    weight: Tensor  # (k, d)
    bias: Tensor  # (k,)


@dataclass(frozen=True, eq=False, kw_only=True)
class Baseline(Pretrained):
    """A classifier of the novel classes on frozen features, by gradient descent.

    Reference:
        A Closer Look at Few-shot Classification (Chen et al., 2019), https://arxiv.org/abs/1904.04232. Baseline++ has
        cosines, in training and after: `scale` times that of the angle to a class's weights.

    Differs in that the head sees the whole support in each step, and begins at zero (with cosines: at the class
    means), so that it depends on the support alone; there batches of 4 in random order, from random weights, and
    100 passes over the support, which are 200 steps at 5-way 1-shot and 700 at 5-shot.

    Args:
        cosines: Baseline++.
        scale: of the cosines; 2 in the paper up to 200 training classes.
        steps: of torch's SGD with momentum 0.9, dampened by 0.9.
        rate: its learning rate.
        decay: its weight decay.
    """

    cosines: bool = False
    scale: float = 2.0
    steps: int = 100
    rate: float = 0.01
    decay: float = 0.001

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 0 or not (self.rate > 0 and self.decay >= 0 and self.scale > 0):
            raise InputError(
                f"algo.steps={self.steps} and algo.decay={self.decay} must not be negative, algo.rate={self.rate} and "
                f"algo.scale={self.scale} must be above 0"
            )

    def classify(self, params: P, z: Tensor) -> Tensor:
        if self.cosines:
            return self.scale * cosine(z, params["classifier.weight"])
        return super().classify(params, z)

    def init(self, generator: torch.Generator) -> Meta:
        params = super().init(generator).params
        if self.cosines:
            del params["classifier.bias"]
        return Meta(params, {})

    def adapt(self, meta: Meta, support: Examples, unlabelled: Inputs | None = None) -> Head:  # noqa: ARG002
        z, k = self.features(meta, support.inputs).detach(), self.problem.way
        weight = prototypes(z, support.y, k, support.mask) if self.cosines else z.new_zeros(k, z.shape[1])
        head = {"weight": weight, "bias": z.new_zeros(k)}

        def loss(head: P) -> Tensor:
            return self.problem.loss(self.problem.among(self._logits(head, z), support), support)

        velocity: P = {}
        for _ in range(self.steps):
            slope = trees.add(grad(loss)(head), trees.scale(head, self.decay))
            velocity = trees.map_with(lambda v, g: MOMENTUM * v + (1 - MOMENTUM) * g, velocity or slope, slope)
            head = trees.add(head, trees.scale(velocity, -self.rate))
        return Head(**head)

    def predict(self, meta: Meta, task: Head, query: Inputs) -> Tensor:
        return self._logits(task._asdict(), self.features(meta, query))

    def _logits(self, head: P, z: Tensor) -> Tensor:
        if self.cosines:
            return self.scale * cosine(z, head["weight"])
        return F.linear(z, head["weight"], head["bias"])
