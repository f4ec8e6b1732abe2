"""Classification into the k classes of an episode."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from metavision.types import Examples, Metrics


@dataclass(frozen=True)
class Classification:
    """Cross-entropy and accuracy over `way` classes; padding counts for nothing."""

    way: int

    @property
    def outputs(self) -> int:
        """How many numbers a model gives for an example: a logit a class."""
        return self.way

    def loss(self, logits: Tensor, examples: Examples) -> Tensor:
        """Mean cross-entropy of logits (n, k), a scalar."""
        return masked_mean(F.cross_entropy(logits, examples.y, reduction="none"), examples.mask)

    def metrics(self, logits: Tensor, examples: Examples) -> Metrics:
        """`accuracy`: the fraction of examples whose highest logit is their class's."""
        right = (logits.argmax(-1) == examples.y).to(logits.dtype)
        return {"accuracy": masked_mean(right, examples.mask)}


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of (n,) over the unmasked."""
    if mask is None:
        return values.mean()
    weight = mask.to(values.dtype)
    return (values * weight).sum() / weight.sum()
