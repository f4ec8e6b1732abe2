"""Laplacian regularised few-shot learning."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from metavision.algorithms.transductive import Transductive
from metavision.errors import InputError
from metavision.functional.distances import squared_euclidean
from metavision.functional.rectify import rectified
from metavision.types import Examples, Inputs, Meta

SAME = 1e-5  # share of their squared lengths by which two features of one image may differ


class Neighbourhood(NamedTuple):
    """Prototypes, and the queries with what each is thought to be."""

    prototypes: Tensor  # (k, d)
    absent: Tensor  # (k,) bool: the support has no such class
    z: Tensor  # (m, d)
    away: Tensor  # (m,) bool: padding
    share: Tensor  # (m, k)


@dataclass(frozen=True, eq=False, kw_only=True)
class LaplacianShot(Transductive):
    """Near queries are to have one class: nearness to rectified prototypes, and agreement with nearest neighbours.

    Reference:
        Laplacian Regularized Few-Shot Learning (Ziko et al., 2020), https://arxiv.org/abs/2006.15486, by its bound
        updates: y <- softmax(-distances + agreement * sum of the neighbours' y).

    Args:
        agreement: lambda.
        neighbours: how many each query listens to; 2 in the authors' code, which counts the query itself as a third.
        steps: of the updates.
        sharpness: of the rectification.
    """

    agreement: float = 0.7
    neighbours: int = 2
    steps: int = 20
    sharpness: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.agreement < 0 or self.neighbours < 1 or self.steps < 1 or not self.sharpness > 0:
            raise InputError(
                f"algo.agreement={self.agreement} must not be negative, algo.neighbours={self.neighbours} and "
                f"algo.steps={self.steps} must be at least 1, algo.sharpness={self.sharpness} above 0"
            )

    def adapt(self, meta: Meta, support: Examples, unlabelled: Inputs | None = None) -> Neighbourhood:
        z, y, more, counts = self.both(meta, support, unlabelled)
        means = rectified(z, y, more, counts, self.sharpness).prototypes
        away = counts == 0
        task = Neighbourhood(means, y.sum(0) == 0, more, away, torch.zeros_like(more[:, :1]).expand(-1, y.shape[1]))
        task = task._replace(share=self._far(task, more).neg().softmax(1))
        near = self._near(more, more, away)
        for _ in range(self.steps - 1):
            task = task._replace(share=self._logits(task, more, near).softmax(1))
        return task

    def predict(self, meta: Meta, task: Neighbourhood, query: Inputs) -> Tensor:
        """By one more update, for which the queries of `adapt` give their shares."""
        z = self.features(meta, query)
        return self._logits(task, z, self._near(z, task.z, task.away))

    def _logits(self, task: Neighbourhood, z: Tensor, near: Tensor) -> Tensor:
        return self.agreement * near @ task.share - self._far(task, z)

    def _far(self, task: Neighbourhood, z: Tensor) -> Tensor:
        return squared_euclidean(z, task.prototypes).masked_fill(task.absent, torch.inf)

    def _near(self, z: Tensor, others: Tensor, away: Tensor) -> Tensor:
        """(n, m): 1 where one of `others` is among the nearest, which a copy of the same image is not."""
        # Multiplied out, since there are as many squares as pairs; and an image is known again but for rounding.
        sizes = z.square().sum(1, keepdim=True) + others.square().sum(1)
        far = (sizes - 2 * z @ others.T).masked_fill(away, torch.inf)
        far = torch.where(far <= SAME * sizes, torch.inf, far)
        least = far.topk(min(self.neighbours, len(others)), largest=False).values[:, -1:]
        return ((far <= least) & far.isfinite()).to(z.dtype)
