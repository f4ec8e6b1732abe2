"""The contract of an inner-loop update."""

from typing import Any, ClassVar, Protocol

import torch

from metavision.types import P


class Rule(Protocol):
    """How fast weights move; a pure function, so that it maps over tasks and can be differentiated through.

    Random draws belong into `init`, never into `start` or `step`, which are mapped.

    Attributes:
        learns_rates: whether learning rates are learned; else there is a field `lr`.
    """

    learns_rates: ClassVar[bool]

    def init(self, params: P, generator: torch.Generator) -> P:
        """What the rule itself learns, such as learning rates."""
        ...

    def start(self, params: P) -> Any:
        """The state before the first step, such as zero momentum."""
        ...

    def step(self, rule: P, state: Any, grads: P, params: P) -> tuple[P, Any]:
        """One update of params by grads, with the rule's learned parameters."""
        ...
