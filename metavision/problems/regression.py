"""Regression of a number."""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from metavision.errors import InputError
from metavision.problems.classification import masked_mean
from metavision.types import Examples, Metrics


@dataclass(frozen=True)
class Regression:
    """Mean squared error of y (n, 1).

    Args:
        way: 1; an episode has one function, and no classes.
    """

    way: int = 1

    metric: ClassVar[str] = "mse"
    higher: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.way != 1:
            raise InputError(f"episode.way is {self.way}; an episode of a regression is of 1 function")

    @property
    def outputs(self) -> int:
        return 1

    @property
    def chance(self) -> None:
        return None

    def among(self, outputs: Tensor, support: Examples) -> Tensor:  # noqa: ARG002 - there are no classes
        return outputs

    def loss(self, outputs: Tensor, examples: Examples, smoothing: float = 0.0) -> Tensor:  # noqa: ARG002
        each = F.mse_loss(outputs, examples.y, reduction="none").mean(-1)
        return masked_mean(each, examples.mask)

    def metrics(self, outputs: Tensor, examples: Examples) -> Metrics:
        return {self.metric: self.loss(outputs, examples)}

    def details(self, outputs: Tensor, examples: Examples) -> dict[str, Tensor]:  # noqa: ARG002 - the error says all
        return {}
