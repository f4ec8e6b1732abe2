"""A good embedding is all you need."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import torch
from torch import Tensor

from metavision.algorithms.base import Score
from metavision.algorithms.pretraining import Pretrained
from metavision.errors import InputError
from metavision.functional.logistic import logistic
from metavision.functional.prototypes import members
from metavision.problems.classification import Classification
from metavision.types import Examples, Inputs, Meta


class Head(NamedTuple):
    """What is learned of the support."""

    weight: Tensor  # (d, k)
    bias: Tensor  # (k,)


@dataclass(frozen=True, eq=False, kw_only=True)
class RFS(Pretrained):
    """Logistic regression on features of norm 1.

    Reference:
        Rethinking Few-Shot Image Classification: a Good Embedding Is All You Need? (Tian et al., 2020),
        https://arxiv.org/abs/2003.11539. Self-distillation trains another generation to give what the last one gave:
        `algo.teacher=` its run.

    Differs in that the support is not augmented at test time (there five copies).

    Args:
        penalty: C of the regression.
        teacher: gives the weights of the last generation; null: none.
        likeness: weight of the teacher's outputs in the loss; that of the labels is 1 minus it.
        temperature: of the outputs that are compared.
    """

    penalty: float = 1.0
    teacher: Callable[[], Meta] | None = None
    likeness: float = 0.5
    temperature: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.penalty > 0 and 0 <= self.likeness <= 1 and self.temperature > 0):
            raise InputError(
                f"algo.penalty={self.penalty} and algo.temperature={self.temperature} must be above 0, "
                f"algo.likeness={self.likeness} from 0 to 1"
            )

    def score_batch(self, meta: Meta, batch: Examples) -> Score:
        if self.teacher is None:
            return super().score_batch(meta, batch)
        problem = Classification(self.classes)
        logits = self.classify(meta.params, self.embed(meta.params, meta.buffers, batch.inputs))
        taught, ours = ((part / self.temperature).log_softmax(-1) for part in (self._taught(batch), logits))
        apart = (taught.exp() * (taught - ours)).sum(-1).mean() * self.temperature**2
        loss = (1 - self.likeness) * problem.loss(logits, batch, self.smoothing) + self.likeness * apart
        return loss, problem.metrics(logits, batch)

    def adapt(self, meta: Meta, support: Examples, unlabelled: Inputs | None = None) -> Head:  # noqa: ARG002
        z = self.features(meta, support.inputs)
        if support.mask is not None:
            z = z * support.mask.to(z.dtype).unsqueeze(-1)
        return Head(*logistic(z, members(support.y, self.problem.way, support.mask, z.dtype), self.penalty))

    def predict(self, meta: Meta, task: Head, query: Inputs) -> Tensor:
        return self.features(meta, query) @ task.weight + task.bias

    def _taught(self, batch: Examples) -> Tensor:
        """The teacher's logits; it sees the same images, and normalises as in evaluation."""
        still, meta = self._teacher
        with torch.no_grad():
            place = {name: p.to(batch.x.device) for name, p in (*meta.params.items(), *meta.buffers.items())}
            return still.classify(place, still.embed(place, {n: place[n] for n in meta.buffers}, batch.inputs))

    @cached_property
    def _teacher(self) -> tuple[Self, Meta]:
        assert self.teacher is not None
        return self.for_evaluation(), self.teacher()
