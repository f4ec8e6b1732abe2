"""Classification into the k classes of an episode."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from metavision.errors import InputError
from metavision.types import Examples, Metrics

BINS = 15  # of reliability: the field's usual number


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
        """Mean cross-entropy of logits (n, k), a scalar; `smoothing` of a label is shared by all classes there are."""
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

    def details(self, logits: Tensor, examples: Examples) -> dict[str, Tensor]:
        """What one task tells beyond its accuracy, as counts that add up over tasks.

        Returns:
            confusion: (k, k), how many examples of a class (row) were taken for another (column).
            bins: (BINS, 3), by the probability of the likeliest class: examples, the sum of their probabilities, and
                how many of them were right.
            brier: the mean squared distance of probabilities and truth, summed over classes (Brier, 1950).
        """
        weight = torch.ones_like(logits[:, 0]) if examples.mask is None else examples.mask.to(logits.dtype)
        classes = torch.arange(self.way, device=logits.device)
        truth, answer = ((c.unsqueeze(-1) == classes).to(logits.dtype) for c in (examples.y, logits.argmax(-1)))
        p = logits.softmax(-1)
        sure = p.amax(-1)
        place = (sure.unsqueeze(-1) * BINS).clamp(max=BINS - 1).floor()
        within = (place == torch.arange(BINS, device=logits.device)).to(logits.dtype) * weight.unsqueeze(-1)
        right = (truth * answer).sum(-1)
        return {
            "confusion": (truth * weight.unsqueeze(-1)).T @ answer,
            "bins": within.T @ torch.stack([torch.ones_like(sure), sure, right], -1),
            "brier": masked_mean((p - truth).square().sum(-1), examples.mask),
        }


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of (n,) over the unmasked."""
    if mask is None:
        return values.mean()
    weight = mask.to(values.dtype)
    return (values * weight).sum() / weight.sum()
