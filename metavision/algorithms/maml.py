"""Model-agnostic meta-learning, second and first order."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metavision import trees
from metavision.algorithms.base import Algorithm
from metavision.errors import InputError
from metavision.nn import functional
from metavision.nn.gradient import gradient, step
from metavision.rules.base import Rule
from metavision.types import Examples, Inputs, Meta, P


@dataclass(frozen=True, eq=False, kw_only=True)
class MAML(Algorithm):
    """An initialisation from which a few gradient steps on the support solve the task.

    Reference:
        Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks (Finn et al., 2017),
        https://arxiv.org/abs/1703.03400

    Args:
        rule: the inner-loop update.
        steps: inner steps in meta-training.
        test_steps: inner steps in evaluation.
        test_lr: inner learning rate in evaluation; None: that of the rule.
        first_order: treat the inner gradients as constants (FOMAML).
        moves: what the inner loop moves: `all`; the `head` alone (ANIL, Rapid Learning or Feature Reuse?, Raghu et al.,
            2020, https://arxiv.org/abs/1909.09157); or the `backbone` alone (BOIL, Oh et al., 2021,
            https://arxiv.org/abs/2008.08882).
    """

    rule: Rule
    steps: int = 5
    test_steps: int = 10
    test_lr: float | None = None
    first_order: bool = False
    moves: Literal["all", "head", "backbone"] = "all"

    regresses: ClassVar[bool] = True
    teaches_rules: ClassVar[bool] = True  # whether the meta-gradient reaches what a rule learns

    def __post_init__(self) -> None:
        if self.steps < 0 or self.test_steps < 0:
            raise InputError(f"algo.steps={self.steps} and algo.test_steps={self.test_steps} must not be negative")
        if self.test_lr is not None and (self.rule.learns_rates or not self.test_lr > 0):
            why = "its rates are learned" if self.rule.learns_rates else "it must be above 0"
            raise InputError(f"algo.test_lr is {self.test_lr}; {why}")

    def init(self, generator: torch.Generator) -> Meta:
        params = super().init(generator).params
        with torch.random.fork_rng(devices=[]):  # a layer draws from the global generator as it is made
            head = nn.Linear(self.backbone.features, self.problem.outputs)
        params |= trees.under("head", functional.initial(head, generator))
        rule = self.rule.init(self._moving(params), generator)
        if rule and not self.teaches_rules:
            raise InputError(
                f"algo.rule is {type(self.rule).__name__}, which learns; the meta-gradient of {type(self).__name__} "
                "has no part for it; rule@algo.rule=sgd or adam, or another algorithm"
            )
        return Meta(params | trees.under("rule", rule), {})

    @property
    def exact(self) -> bool:
        return not self.first_order

    def adapt(self, meta: Meta, support: Examples, unlabelled: Inputs | None = None) -> P:  # noqa: ARG002
        """Fast weights, by name."""
        return deque(self.path(meta, support), maxlen=1).pop()  # the steps before it are not held

    def path(self, meta: Meta, support: Examples) -> Iterator[P]:
        """The weights before the first inner step, and after each."""
        rule = trees.select(meta.params, "rule")
        still = self.before(meta, support)
        fast = self._moving(still)
        state = self.begun(meta, fast)
        yield still
        kept = trees.detach(still) if self.first_order else still
        if self.moves == "head" and self.steps:  # the features are the same in every step
            features = self.embed(kept, meta.buffers, support.inputs)

        def loss(fast: P, kept: P, i: int) -> Tensor:
            weights = {**kept, **fast}
            if self.moves == "head":
                return scored(self._head(weights, features), support)
            seen = self.seen(support, i)
            return scored(self.outputs(weights, meta.buffers, seen.inputs, i), seen)

        def scored(outputs: Tensor, examples: Examples) -> Tensor:
            return self.problem.loss(self.problem.among(outputs, examples), examples)

        def moved(i: int, fast: P, state: Any, kept: P, rule: P) -> tuple[P, Any]:
            grads = gradient(loss, fast, kept, i, constant=self.first_order)
            return self.rule.step(rule, state, grads, fast)

        for i in range(self.steps):
            again = self.moves != "head" and not self.first_order  # else a step keeps little
            one = partial(moved, i)
            fast, state = step(one, fast, state, kept, rule) if again else one(fast, state, kept, rule)
            yield {**still, **fast, **self.left(state)}

    def begun(self, meta: Meta, fast: P) -> Any:  # noqa: ARG002 - as if there had been no other task
        """The rule's state before the first inner step."""
        return self.rule.start(fast)

    def left(self, state: Any) -> P:  # noqa: ARG002 - nothing
        """What of the rule's state is for other tasks."""
        return {}

    def seen(self, support: Examples, step: int) -> Examples:  # noqa: ARG002 - all of it in every one
        """What of a support an inner step learns from."""
        return support

    def before(self, meta: Meta, support: Examples) -> P:  # noqa: ARG002 - the same for any support
        """The weights that the inner loop begins with."""
        return trees.without(meta.params, "rule")

    def outputs(self, weights: P, buffers: P, x: Inputs, step: int) -> Tensor:  # noqa: ARG002 - the same in every one
        """What the network gives for x (n, k), by the weights of an inner step."""
        return self._head(weights, self.embed(weights, buffers, x))

    def predict(self, meta: Meta, task: P, query: Inputs) -> Tensor:
        return self.outputs(task, meta.buffers, query, max(self.steps - 1, 0))

    def for_evaluation(self) -> Self:
        rule: Any = self.rule
        if self.test_lr is not None:
            rule = replace(rule, lr=self.test_lr)
        return replace(super().for_evaluation(), steps=self.test_steps, rule=rule)

    def before_adaptation(self) -> Self | None:
        return replace(self, steps=0)

    def _moving(self, params: P) -> P:
        """The parameters that the inner loop moves."""
        prefix = "" if self.moves == "all" else f"{self.moves}."
        return {name: p for name, p in params.items() if name.startswith(prefix)}

    def _head(self, params: P, z: Tensor) -> Tensor:
        return F.linear(z, params["head.weight"], params["head.bias"])
