"""Reptile."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch

from metavision import trees
from metavision.algorithms.base import Mapper
from metavision.algorithms.maml import MAML
from metavision.errors import InputError
from metavision.types import CARRIED, Episode, Examples, Inputs, Meta, Metrics, P, joined


@dataclass(frozen=True, eq=False, kw_only=True)
class Reptile(MAML):
    """Trains on tasks as if each were the only one, and moves towards where that leads.

    Reference:
        On First-Order Meta-Learning Algorithms (Nichol, Achiam and Schulman, 2018), https://arxiv.org/abs/1803.02999

    The outer direction is params - mean of the adapted params; an outer SGD of rate 1, falling to 0, is the paper's.
    In training a task is all of its examples, support and queries, as Reptile has no queries: set
    `episode.train.shot` and `query` so that they add up to its training shots.

    Differs in that a small batch of an inner step has every class as often, to one, where the paper's is drawn, and in
    that all of a support is learned from in every step of a test. The authors' code hands what an inner Adam remembers
    from each task to the next; here all tasks of an outer step begin with the same, and the next step with its mean.

    Args:
        keep: whether what the rule remembers, such as Adam's averages, goes on from step to step, and to the tasks of a
            test; else every task begins without.
        batch: how many of a task's examples an inner step sees in training, one after another of every class, and after
            the last the first again. None: all in every step.
    """

    first_order: bool = True
    keep: bool = False
    batch: int | None = None

    teaches_rules: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch is not None and self.batch < 1:
            raise InputError(f"algo.batch is {self.batch}; an inner step needs an example at least")

    @property
    def exact(self) -> bool:
        return False

    def init(self, generator: torch.Generator) -> Meta:
        meta = super().init(generator)
        state = self.rule.start(self._moving(trees.without(meta.params, "rule"))) if self.keep else None
        carried = trees.named(state)
        if carried and not trees.real(state):
            raise InputError(
                f"algo.keep is true, and what {type(self.rule).__name__} remembers is not all of real numbers, so "
                "that it has no mean over tasks; algo.keep=false begins every task without it"
            )
        return Meta(meta.params | trees.under(CARRIED, carried), meta.buffers)

    def adapt(self, meta: Meta, support: Examples, unlabelled: Inputs | None = None) -> P:
        return trees.without(super().adapt(meta, support, unlabelled), CARRIED)

    def before(self, meta: Meta, support: Examples) -> P:
        return trees.without(super().before(meta, support), CARRIED)

    def begun(self, meta: Meta, fast: P) -> Any:
        state = super().begun(meta, fast)
        return trees.renewed(state, trees.select(meta.params, CARRIED)) if self.keep else state

    def left(self, state: Any) -> P:
        return trees.under(CARRIED, trees.named(state)) if self.keep else {}

    def seen(self, support: Examples, step: int) -> Examples:
        if self.batch is None:
            return support
        rows, n = turns(support), len(support.x) if support.mask is None else support.mask.sum()
        here = torch.arange(min(self.batch, len(support.x)), device=rows.device) + step * self.batch
        part = rows[here % n]
        return Examples(support.x[part], support.y[part])

    def for_evaluation(self) -> Self:
        return replace(super().for_evaluation(), batch=None)

    def meta_grad(self, meta: Meta, tasks: Any, mapper: Mapper) -> tuple[P, Metrics]:
        """The gradient of half the squared distance to the adapted params; what is logged is theirs on the task."""
        adapt = super().adapt  # with what is carried

        def score(params: P, episode: Episode) -> tuple[torch.Tensor, Metrics]:
            here, both = Meta(trees.detach(params), meta.buffers), joined(episode.support, episode.query)
            adapted = trees.detach(adapt(here, both))
            squares = [(params[name] - p).square().sum() for name, p in adapted.items()]
            with torch.no_grad():
                logits = self.predict(here, adapted, both.inputs)
                loss, metrics = self.problem.loss(logits, both), self.problem.metrics(logits, both)
            return torch.stack(squares).sum() / 2, {"loss": loss, **metrics}

        return mapper.mean_grad(score, meta.params, tasks)


def turns(examples: Examples) -> torch.Tensor:
    """The rows (n,) by turns: the first of every class, then the second of every class, and padding last."""
    y = examples.y
    if y.is_floating_point():  # there are no classes
        return torch.arange(len(y), device=y.device)
    there = torch.ones_like(y, dtype=torch.bool) if examples.mask is None else examples.mask
    before = ((y.unsqueeze(1) == y) & there).tril(-1).sum(1)  # of its class
    place = torch.where(there, before, len(y))
    return (place * (y.max() + 1) + y).argsort(stable=True)
