"""The contract of a problem: what targets are, what an output costs, and what is reported."""

from typing import ClassVar, Protocol

from torch import Tensor

from metavision.types import Examples, Metrics


class Problem(Protocol):
    """What the outputs of a model mean. Padding counts for nothing.

    Attributes:
        metric: the name of the figure that is reported and selected by.
        higher: whether more of it is better.
        way: classes of an episode; 1 where there are none.
    """

    metric: ClassVar[str]
    higher: ClassVar[bool]

    @property
    def way(self) -> int: ...
    @property
    def outputs(self) -> int:
        """How many numbers a model gives for an example."""
        ...

    @property
    def chance(self) -> float | None:
        """The metric of a guess; None: there is no such thing."""
        ...

    def among(self, outputs: Tensor, support: Examples) -> Tensor:
        """Outputs, without a chance for what the support has no example of."""
        ...

    def loss(self, outputs: Tensor, examples: Examples, smoothing: float = 0.0) -> Tensor:
        """Mean cost of outputs (n, outputs), a scalar."""
        ...

    def metrics(self, outputs: Tensor, examples: Examples) -> Metrics:
        """Figures of one task, the `metric` among them."""
        ...

    def details(self, outputs: Tensor, examples: Examples) -> dict[str, Tensor]:
        """What else there is to know of one task, as tensors of one shape for all tasks."""
        ...
