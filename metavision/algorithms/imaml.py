"""MAML by the implicit gradient."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from metavision import trees
from metavision.algorithms.base import Mapper
from metavision.algorithms.maml import MAML
from metavision.errors import InputError
from metavision.functional.cg import conjugate_gradients
from metavision.nn.gradient import gradient
from metavision.types import Episode, Examples, Meta, Metrics, P


@dataclass(frozen=True, eq=False, kw_only=True)
class IMAML(MAML):
    """The inner loop stays near the initialisation; the meta-gradient depends on where it ends, not on the way there.

    Reference:
        Meta-Learning with Implicit Gradients (Rajeswaran et al., 2019), https://arxiv.org/abs/1909.04630: the inner
        loss is that of the support plus strength/2 |phi - theta|^2, and the meta-gradient (I + H / strength)^-1 of
        the query's gradient, H the support's Hessian at phi, by conjugate gradients. It is exact where the inner loop
        has converged.

    Args:
        strength: lambda, how much the inner loop is held back.
        iterations: of conjugate gradients.
        damping: added to the identity, since a network's H may have negative curvature.
    """

    strength: float = 2.0
    iterations: int = 5
    damping: float = 0.0

    teaches_rules: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.moves != "all":
            raise InputError(f"algo.moves is {self.moves}; the implicit gradient is of an inner loop that moves all")
        if not (self.strength > 0 and self.iterations >= 1 and self.damping >= 0):
            raise InputError(
                f"algo.strength={self.strength} must be above 0, algo.iterations={self.iterations} at least 1, "
                f"algo.damping={self.damping} at least 0"
            )

    @property
    def exact(self) -> bool:
        return False

    def path(self, meta: Meta, support: Examples) -> Iterator[P]:
        fast = still = self.before(meta, support)
        rule, state = trees.select(meta.params, "rule"), self.rule.start(fast)
        yield fast
        for step in range(self.steps):
            grads = gradient(self._support_loss, fast, meta, support, step)
            pull = trees.add(fast, trees.scale(still, -1.0))
            fast, state = self.rule.step(rule, state, trees.add(grads, trees.scale(pull, self.strength)), fast)
            yield fast

    def meta_grad(self, meta: Meta, tasks: Any, mapper: Mapper) -> tuple[P, Metrics]:
        def score(params: P, episode: Episode) -> tuple[Tensor, Metrics]:
            here = Meta(trees.detach(params), meta.buffers)
            with torch.autocast(episode.support.x.device.type, enabled=False):  # a solution does not stand rounding
                direction, loss, metrics = self.implicit(here, episode)
            # A scalar whose gradient by params is the direction.
            return trees.dot(trees.detach(direction), params), {"loss": loss.detach(), **trees.detach(metrics)}

        return mapper.mean_grad(score, meta.params, tasks)

    def implicit(self, meta: Meta, episode: Episode) -> tuple[P, Tensor, Metrics]:
        """The meta-gradient of one task, and loss and metrics of its query."""
        support, query, last = episode.support, episode.query, max(self.steps - 1, 0)
        fast = trees.detach(self.adapt(meta, support))

        def outputs(phi: P) -> Tensor:
            return self.problem.among(self.predict(meta, phi, query.inputs), support)

        by_query = gradient(lambda phi: self.loss(outputs(phi), query), fast)

        def slope(phi: P) -> P:
            return gradient(self._support_loss, phi, meta, support, last)

        def matvec(v: P) -> P:
            curved = gradient(lambda phi: trees.dot(slope(phi), v), fast)  # forward mode would compile, with a warning
            return trees.add(trees.scale(v, 1 + self.damping), trees.scale(curved, 1 / self.strength))

        direction = conjugate_gradients(matvec, by_query, self.iterations)
        logits = outputs(fast)
        return direction, self.loss(logits, query), self.problem.metrics(logits, query)

    def _support_loss(self, phi: P, meta: Meta, support: Examples, step: int) -> Tensor:
        outputs = self.outputs(phi, meta.buffers, support.inputs, step)
        return self.problem.loss(self.problem.among(outputs, support), support)
