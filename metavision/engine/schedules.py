"""Outer learning rates as pure functions of the step, so that a resumed run needs no state of theirs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from metavision.errors import InputError


class Schedule(Protocol):
    """The factor on the learning rate at outer step `step` of `steps`, both counted from 0."""

    def __call__(self, step: int, steps: int) -> float: ...


@dataclass(frozen=True)
class Constant:
    """Always 1."""

    def __call__(self, step: int, steps: int) -> float:  # noqa: ARG002
        return 1.0


@dataclass(frozen=True)
class Step:
    """Times `factor` after every `every` steps."""

    every: int
    factor: float = 0.5

    def __post_init__(self) -> None:
        if self.every < 1:
            raise InputError(f"schedule.every is {self.every}; it must be at least 1")

    def __call__(self, step: int, steps: int) -> float:  # noqa: ARG002
        return self.factor ** (step // self.every)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 to `final` (SGDR, Loshchilov and Hutter, 2017, https://arxiv.org/abs/1608.03983)."""

    final: float = 0.0

    def __call__(self, step: int, steps: int) -> float:
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * step / max(steps, 1))) / 2


@dataclass(frozen=True)
class MultiStep:
    """Times `factor` at each of `milestones`.

    Args:
        milestones: outer steps.
        factor: of all of them, or a list with one for each.
        of: the length of run that they are of; a run of another length has them in proportion. None: steps as they are.
    """

    milestones: Sequence[int]
    factor: float | Sequence[float] = 0.1
    of: int | None = None

    def __post_init__(self) -> None:
        if len(self._factors) != len(self.milestones):
            raise InputError(
                f"schedule.factor lists {len(self._factors)}, schedule.milestones {len(self.milestones)}; "
                "it is one number, or one for each milestone"
            )

    def __call__(self, step: int, steps: int) -> float:
        length = self.of or steps
        passed = (step * length >= milestone * steps for milestone in self.milestones)
        return math.prod(factor for factor, past in zip(self._factors, passed, strict=True) if past)

    @property
    def _factors(self) -> Sequence[float]:
        return [self.factor] * len(self.milestones) if isinstance(self.factor, int | float) else self.factor


@dataclass(frozen=True)
class Linear:
    """A straight line from 1 to `final`."""

    final: float = 0.0

    def __call__(self, step: int, steps: int) -> float:
        return 1 + (self.final - 1) * step / max(steps, 1)


@dataclass(frozen=True)
class Warmup:
    """A straight line from nearly 0 to 1 over the first `first` steps, then another schedule from its beginning."""

    first: int
    then: Schedule

    def __post_init__(self) -> None:
        if self.first < 1:
            raise InputError(f"schedule.first is {self.first}; warming up takes 1 step at least")

    def __call__(self, step: int, steps: int) -> float:
        if step < self.first:
            return (step + 1) / (self.first + 1)
        return self.then(step - self.first, max(steps - self.first, 1))


@dataclass(frozen=True)
class Cooldown:
    """A schedule, and besides a straight line to 0 over the last `share` of the steps.

    A run far shorter than the paper's ends where its schedule has hardly begun to fall; with a cooldown it comes out as
    if its schedule had been made for its length (Hägele et al., 2024, https://arxiv.org/abs/2405.18392).
    """

    of: Schedule
    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError(f"budget.cooldown is {self.share}; a share of the steps is above 0 and at most 1")

    def __call__(self, step: int, steps: int) -> float:
        return self.of(step, steps) * min(1.0, (steps - step) / max(self.share * steps, 1))
