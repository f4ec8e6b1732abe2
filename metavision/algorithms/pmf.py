"""P>M>F: a pre-trained network, meta-trained, then fine-tuned on every task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metavision import trees
from metavision.algorithms.base import Choices
from metavision.algorithms.finetune import Finetune
from metavision.errors import InputError
from metavision.functional.distances import cosine
from metavision.types import Examples, Meta, P


@dataclass(frozen=True, eq=False, kw_only=True)
class PMF(Finetune):
    """Cosines to class means, by a learned scale; on a task the network moves, and the class means with it.

    Reference:
        Pushing the Limits of Simple Pipelines for Few-Shot Learning (Hu et al., 2022), https://arxiv.org/abs/2204.07305.
        In a step the class means are of the support as it is, and the loss is of the support augmented.

    The learning rate of a task is chosen once, after meta-training, on validation episodes: 0, which leaves the network
    alone, or one of `rates`. It is a buffer of the checkpoint from then on. Until then, so in the validations of
    meta-training, as in the paper, and in the untrained reference, nothing is fine-tuned.

    Differs in that it is chosen on classes of validation, where the paper takes episodes of the test's domain; and in
    what `DiffAugment` says of itself.

    Args:
        scale: where the learned one begins.
        rates: that are tried besides 0, times the rule's own.
        trials: validation episodes that each is tried on.
    """

    rates: Sequence[float] = (1e-4, 1e-3, 1e-2)
    trials: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head != "cosine" or self.tune == "head":
            raise InputError(
                f"algo.head={self.head}, algo.tune={self.tune}: P>M>F takes cosines and moves the backbone"
            )
        if self.trials < 1 or not all(rate > 0 for rate in self.rates):
            raise InputError(f"algo.trials is {self.trials}, algo.rates {list(self.rates)}; all must be above 0")

    def init(self, generator: torch.Generator) -> Meta:
        return Meta({**super().init(generator).params, "scale": torch.tensor(float(self.scale))}, {})

    def choices(self, meta: Meta) -> Choices:
        buffers = {name: t for name, t in meta.buffers.items() if name != "rate"}
        options = {"rate=0": Meta(meta.params, buffers)}
        for rate in self.rates:
            chosen = torch.full_like(meta.params["scale"], rate)
            options[f"rate={rate:g}"] = Meta(meta.params, {**buffers, "rate": chosen})
        return Choices(options, self.trials)

    def tuning(self, meta: Meta) -> bool:
        return self.tunes and "rate" in meta.buffers

    def begin(self, meta: Meta, support: Examples) -> P:  # noqa: ARG002
        return self.nothing(meta)

    def step(self, meta: Meta, state: Any, grads: P, fast: P) -> tuple[P, Any]:
        moved, state = super().step(meta, state, grads, fast)
        return trees.map_with(lambda old, new: torch.lerp(old, new, meta.buffers["rate"]), fast, moved), state

    def classifier(self, meta: Meta, fast: P, support: Examples) -> P:
        return self.means(meta, trees.select(fast, "extra"), support)

    def classify(self, meta: Meta, head: P, z: Tensor) -> Tensor:
        return meta.params["scale"] * cosine(z, head["weight"])
