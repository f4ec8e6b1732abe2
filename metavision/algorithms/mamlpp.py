"""MAML++: MAML made stable."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from metavision import trees
from metavision.algorithms.base import Score
from metavision.algorithms.maml import MAML
from metavision.errors import InputError
from metavision.nn.normalisation import GroupNorm, Norm
from metavision.types import Episode, Inputs, Meta, P

LEAST = 0.03  # share of the first steps' losses, in sum, that stays until only the last counts


@dataclass(frozen=True, eq=False, kw_only=True)
class MAMLPlusPlus(MAML):
    """MAML with a loss after every inner step, rates by layer and step, and normalisation by step.

    Reference:
        How to Train Your MAML (Antoniou et al., 2019), https://arxiv.org/abs/1810.09502. Learned rates by layer and
        step are the rule `learned_step_lr`, the cosine schedule of the outer rate is the schedule `cosine`. Scales and
        offsets of the normalisation are learned for every step and stay still in the inner loop.

    Differs in that statistics by step are not kept: by `norm=batch`, as in the authors' code, none is used; and in that
    no ensemble of the five best checkpoints is tested.

    Args:
        multi_step: fraction of meta-training in which the losses after the first steps count, ever less; then only the
            last does.
        first_order_until: fraction of meta-training in which inner gradients are constants (derivative-order
            annealing); the paper has 0.5, the authors' settings for mini-ImageNet 0.
        progress: fraction of meta-training that is done.
    """

    multi_step: float = 0.15
    first_order_until: float = 0.0
    progress: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.moves == "head":
            raise InputError("algo.moves is head; normalisation by inner step needs a backbone that is run in each")
        if not (0 <= self.multi_step <= 1 and 0 <= self.first_order_until <= 1):
            raise InputError(
                f"algo.multi_step={self.multi_step} and algo.first_order_until={self.first_order_until} are fractions "
                "of meta-training, from 0 to 1"
            )

    def init(self, generator: torch.Generator) -> Meta:
        params = super().init(generator).params
        norms = {f"norms.{name}": params[name].repeat(max(self.steps, 1), 1) for name in self._norms()}
        gone = {name for norm in self._norms() for name in (norm, f"rule.{norm}")}
        return Meta({name: p for name, p in params.items() if name not in gone} | norms, {})

    def score(self, meta: Meta, episode: Episode) -> Score:
        """The weighted losses after all steps; the metrics are those after the last."""
        losses, logits = [], torch.empty(0)
        for step, weights in enumerate(self.path(meta, episode.support), start=-1):
            if step < 0 and self.steps:
                continue
            outputs = self.outputs(weights, meta.buffers, episode.query.inputs, max(step, 0))
            logits = self.problem.among(outputs, episode.support)
            losses.append(self.loss(logits, episode.query))
        total = torch.stack([w * loss for w, loss in zip(self.weights(), losses, strict=True) if w]).sum()
        return total, self.problem.metrics(logits, episode.query)

    def weights(self) -> list[float]:
        """Of the losses after each inner step: all alike at first, in the end the last alone."""
        n = max(self.steps, 1)
        if self.progress >= self.multi_step:
            return [0.0] * (n - 1) + [1.0]
        first = max((1 - self.progress / self.multi_step) / n, LEAST / n)
        return [first] * (n - 1) + [1 - (n - 1) * first]

    def outputs(self, weights: P, buffers: P, x: Inputs, step: int) -> Tensor:
        return super().outputs(self._at_step(weights, step), buffers, x, step)

    def at(self, progress: float) -> Self:
        first_order = self.first_order or progress < self.first_order_until
        return replace(self, progress=progress, first_order=first_order)

    def for_evaluation(self) -> Self:
        return replace(super().for_evaluation(), progress=1.0)

    def calibrate(self, meta: Meta, x: Tensor) -> Meta:
        """By the normalisation of the first step."""
        found = super().calibrate(Meta(self._at_step(meta.params, 0), meta.buffers), x)
        return Meta(meta.params, found.buffers)

    def _norms(self) -> Iterator[str]:
        """The scales and offsets of the backbone's normalisation, by name."""
        for name, layer in self.backbone.named_modules():
            if isinstance(layer, Norm | GroupNorm):
                yield from (f"backbone.{name}.weight", f"backbone.{name}.bias")

    def _at_step(self, params: P, step: int) -> P:
        """With the normalisation of a step; of steps beyond those of training, that of the last."""
        norms = trees.select(params, "norms")
        return params | {name: stack[min(step, len(stack) - 1)] for name, stack in norms.items()}

    def _moving(self, params: P) -> P:
        return {name: p for name, p in super()._moving(params).items() if not name.startswith("norms.")}
