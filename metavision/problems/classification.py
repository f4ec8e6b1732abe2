"""Classification into the k classes of an episode."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from metavision.errors import InputError
from metavision.types import Examples, Metrics


@dataclass(frozen=True)
class Classification:
    """Cross-entropy and accuracy over `way` classes; padding counts for nothing."""

    way: int

    metric: ClassVar[str] = "accuracy"
    higher: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.way < 2:
            raise InputError(f"way is {self.way}; an episode needs at least 2")

    @property
    def chance(self) -> float:
        return 1 / self.way

    @property
    def outputs(self) -> int:
        """How many numbers a model gives for an example: a logit a class."""
        return self.way

    def among(self, logits: Tensor, support: Examples) -> Tensor:
        """Logits (n, k) without a chance for classes that the support has no example of, where its size varies."""
        if support.mask is None:
            return logits
        # Not F.one_hot, which can't be called inside of a gradient that is mapped.
        classes = torch.arange(self.way, device=support.y.device)
        present = ((support.y.unsqueeze(-1) == classes) & support.mask.unsqueeze(-1)).any(0)
        return logits.masked_fill(~present, -torch.inf)

    def loss(self, logits: Tensor, examples: Examples, smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy of logits (n, k), a scalar; `smoothing` of the labels goes to all classes there are."""
        log_p = logits.log_softmax(-1)
        each = F.nll_loss(log_p, examples.y, reduction="none")
        if smoothing:
            there = logits.isfinite()
            others = -log_p.masked_fill(~there, 0).sum(-1) / there.sum(-1)
            each = (1 - smoothing) * each + smoothing * others
        return masked_mean(each, examples.mask)

    def metrics(self, logits: Tensor, examples: Examples) -> Metrics:
        """`accuracy`: the fraction of examples whose highest logit is their class's."""
        right = (logits.argmax(-1) == examples.y).to(logits.dtype)
        return {self.metric: masked_mean(right, examples.mask)}


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of (n,) over the unmasked."""
    if mask is None:
        return values.mean()
    weight = mask.to(values.dtype)
    return (values * weight).sum() / weight.sum()
