"""Outer learning rates as pure functions of the step, so that a resumed run needs no state of theirs."""

import math
from dataclasses import dataclass
from typing import Protocol


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

    def __call__(self, step: int, steps: int) -> float:  # noqa: ARG002
        return self.factor ** (step // self.every)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 to `final` (SGDR, Loshchilov and Hutter, 2017, https://arxiv.org/abs/1608.03983)."""

    final: float = 0.0

    def __call__(self, step: int, steps: int) -> float:
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * step / max(steps, 1))) / 2
