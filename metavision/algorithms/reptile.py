"""Reptile."""

from dataclasses import dataclass

import torch

from metavision import trees
from metavision.algorithms.base import Mapper
from metavision.algorithms.maml import MAML
from metavision.types import Episode, Examples, Meta, Metrics, P


@dataclass(frozen=True, eq=False, kw_only=True)
class Reptile(MAML):
    """Trains on tasks as if each were the only one, and moves towards where that leads.

    Reference:
        On First-Order Meta-Learning Algorithms (Nichol, Achiam and Schulman, 2018), https://arxiv.org/abs/1803.02999

    The outer direction is params - mean of the adapted params; an outer SGD of rate 1, falling to 0, is the paper's.
    In training a task is all of its examples, support and queries, as Reptile has no queries: set
    `episode.train.shot` and `query` so that they add up to its training shots.

    Differs in that an inner step uses all examples of a task, where the paper's uses small batches of them.
    """

    first_order: bool = True

    @property
    def exact(self) -> bool:
        return False

    def meta_grad(self, meta: Meta, tasks: Episode, mapper: Mapper) -> tuple[P, Metrics]:
        """The gradient of half the squared distance to the adapted params, which is the way from there."""

        def score(params: P, episode: Episode) -> tuple[torch.Tensor, Metrics]:
            here = Meta(params, meta.buffers)
            adapted = trees.detach(self.adapt(here, together(episode.support, episode.query)))
            squares = [(params[name] - p).square().sum() for name, p in adapted.items()]
            loss, metrics = self.score(Meta(trees.detach(params), meta.buffers), episode)
            return torch.stack(squares).sum() / 2, {"loss": loss.detach(), **trees.detach(metrics)}

        return mapper.mean_grad(score, meta.params, tasks)


def together(a: Examples, b: Examples) -> Examples:
    """The examples of both."""
    mask = None
    if a.mask is not None or b.mask is not None:
        masks = (torch.ones_like(part.y, dtype=torch.bool) if part.mask is None else part.mask for part in (a, b))
        mask = torch.cat(list(masks))
    return Examples(torch.cat([a.x, b.x]), torch.cat([a.y, b.y]), mask)
