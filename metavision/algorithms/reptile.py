"""Reptile."""

from dataclasses import dataclass
from typing import Any

import torch

from metavision import trees
from metavision.algorithms.base import Mapper
from metavision.algorithms.maml import MAML
from metavision.types import Episode, Meta, Metrics, P, joined


@dataclass(frozen=True, eq=False, kw_only=True)
class Reptile(MAML):
    """Trains on tasks as if each were the only one, and moves towards where that leads.

    Reference:
        On First-Order Meta-Learning Algorithms (Nichol, Achiam and Schulman, 2018), https://arxiv.org/abs/1803.02999

    The outer direction is params - mean of the adapted params; an outer SGD of rate 1, falling to 0, is the paper's.
    In training a task is all of its examples, support and queries, as Reptile has no queries: set
    `episode.train.shot` and `query` so that they add up to its training shots.

    Differs in that an inner step uses all examples of a task, where the paper's uses small batches of them, and in that
    the averages of an inner Adam begin afresh in every task, where the authors' code keeps them.
    """

    first_order: bool = True

    @property
    def exact(self) -> bool:
        return False

    def meta_grad(self, meta: Meta, tasks: Any, mapper: Mapper) -> tuple[P, Metrics]:
        """The gradient of half the squared distance to the adapted params; what is logged is theirs on the task."""

        def score(params: P, episode: Episode) -> tuple[torch.Tensor, Metrics]:
            here, both = Meta(params, meta.buffers), joined(episode.support, episode.query)
            adapted = trees.detach(self.adapt(here, both))
            squares = [(params[name] - p).square().sum() for name, p in adapted.items()]
            with torch.no_grad():
                logits = self.predict(here, adapted, both.inputs)
                loss, metrics = self.problem.loss(logits, both), self.problem.metrics(logits, both)
            return torch.stack(squares).sum() / 2, {"loss": loss, **metrics}

        return mapper.mean_grad(score, meta.params, tasks)
