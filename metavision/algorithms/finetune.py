"""Fine-tuning on the support: of the classifier, of the whole network, or of a few numbers in it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metavision import trees
from metavision.algorithms.base import Algorithm
from metavision.data import transfer
from metavision.data.augment.base import Augmentation
from metavision.data.draws import random_words, uniform
from metavision.errors import InputError
from metavision.functional.distances import cosine
from metavision.functional.prototypes import members, prototypes
from metavision.nn import tuning
from metavision.nn.gradient import gradient
from metavision.nn.tuning import Tune
from metavision.rules.base import Rule
from metavision.seeds import seed
from metavision.types import Examples, Inputs, Meta, P


class Tuned(NamedTuple):
    """What is learned of the support."""

    extra: P  # numbers that change the backbone, see `metavision.nn.tuning`
    head: P  # weight (k, d) and, of a linear head, bias (k,)


@dataclass(frozen=True, eq=False, kw_only=True)
class Finetune(Algorithm):
    """Gradient descent on the support, from a classifier that begins as class means.

    In meta-training, if there is any, nothing is fine-tuned: it is a prototypical network then.

    References:
        Of what may be moved, see `metavision.nn.tuning`. The linear head begins as that of Proto-MAML, Meta-Dataset
        (Triantafillou et al., 2020), https://arxiv.org/abs/1903.03096: with class means c, weights 2 c and biases
        -|c|^2. The other gives cosines to class means, A Closer Look at Few-shot Classification (Chen et al., 2019),
        https://arxiv.org/abs/1904.04232.

    What is moved besides the classifier is kept as its difference to the pre-trained weights, so a weight decay of the
    rule draws to these, as in Explicit Inductive Bias for Transfer Learning with Convolutional Networks (Li et
    al., 2018), https://arxiv.org/abs/1802.01483.

    Args:
        rule: the update.
        tune: what is moved besides the classifier.
        head: the classifier.
        scale: of the cosines.
        steps: in evaluation; each sees the whole support.
        rank: of LoRA; its matrices are multiplied by `alpha / rank`.
        alpha: see there.
        augment: of the support, drawn anew in every step; the numbers are the same for every task.
        folds: of a cross-validation within the support, which chooses how many of the steps are taken: those of the
            least mean loss on what is held out. A class of one image can't be held out; where all have one, all steps
            are taken. 0: all are.
        tunes: whether it fine-tunes; `for_evaluation` says so.
    """

    rule: Rule
    tune: Tune = "all"
    head: Literal["cosine", "linear"] = "cosine"
    scale: float = 10.0
    steps: int = 50
    rank: int = 4
    alpha: float = 8.0
    augment: Augmentation | None = None
    folds: int = 0
    tunes: bool = False

    def __post_init__(self) -> None:
        if self.steps < 0 or self.rank < 1 or not (self.scale > 0 and self.alpha > 0):
            raise InputError(
                f"algo.steps={self.steps} must not be negative, algo.rank={self.rank} must be at least 1, "
                f"algo.scale={self.scale} and algo.alpha={self.alpha} above 0"
            )
        if self.folds < 0 or self.folds == 1:
            raise InputError(f"algo.folds is {self.folds}; a cross-validation needs at least 2, and 0 means none")
        tuning.names(self.backbone, self.tune)

    @property
    def frozen(self) -> bool:  # type: ignore[override]
        """Whether the backbone stays as it is, and is given each image as it is."""
        return self.tune == "head" and self.augment is None

    @property
    def ordered(self) -> bool:
        """Random numbers and folds go by the place in the support."""
        return self.tunes and (self.augment is not None or self.folds > 0)

    def for_evaluation(self) -> Self:
        return replace(super().for_evaluation(), tunes=True)

    def adapt(self, meta: Meta, support: Examples, unlabelled: Inputs | None = None) -> Tuned:  # noqa: ARG002
        if not self.tuning(meta):
            return Tuned({}, self.means(meta, {}, support))
        best = self._best(meta, support) if self.folds else None
        chosen: P = {}
        for i, fast in enumerate(self.path(meta, support)):
            chosen = fast if i == 0 or best is None else _either(i <= best, fast, chosen)
        return Tuned(trees.select(chosen, "extra"), self.classifier(meta, chosen, support))

    def predict(self, meta: Meta, task: Tuned, query: Inputs) -> Tensor:
        return self.classify(meta, task.head, self.features(meta, task.extra, query))

    def tuning(self, meta: Meta) -> bool:  # noqa: ARG002 - the same for all
        """Whether the support is more than averaged."""
        return self.tunes

    def path(self, meta: Meta, support: Examples) -> Iterator[P]:
        """What is moved, before the first step and after each: `extra` and `head`."""
        fast = self.begin(meta, support)
        state = self.rule.start(fast)
        yield fast
        alone = self.tune == "head" and self.augment is None
        kept = self.features(meta, {}, support.inputs) if alone else None  # the same in every step

        def loss(fast: P, x: Tensor) -> Tensor:
            z = self.features(meta, trees.select(fast, "extra"), Inputs(x, support.mask)) if kept is None else kept
            logits = self.classify(meta, self.classifier(meta, fast, support), z)
            return self.problem.loss(self.problem.among(logits, support), support)

        for x in self._views(support.x):
            grads = gradient(loss, fast, x, constant=True)
            fast, state = self.step(meta, state, grads, fast)
            yield fast

    def step(self, meta: Meta, state: Any, grads: P, fast: P) -> tuple[P, Any]:  # noqa: ARG002
        return self.rule.step({}, state, grads, fast)

    def begin(self, meta: Meta, support: Examples) -> P:
        """What is moved, as it was before."""
        return self.nothing(meta) | trees.under("head", self.means(meta, {}, support))

    def nothing(self, meta: Meta) -> P:
        """Changes of the backbone that change nothing."""
        params = trees.select(meta.params, "backbone")
        return trees.under("extra", tuning.start(self.backbone, self.tune, params, self.rank))

    def means(self, meta: Meta, extra: P, support: Examples) -> P:
        """The classifier that class means make."""
        c = prototypes(self.features(meta, extra, support.inputs), support.y, self.problem.way, support.mask)
        return {"weight": c} if self.head == "cosine" else {"weight": 2 * c, "bias": -c.square().sum(-1)}

    def classifier(self, meta: Meta, fast: P, support: Examples) -> P:  # noqa: ARG002 - it is learned here
        """By what was moved."""
        return trees.select(fast, "head")

    def classify(self, meta: Meta, head: P, z: Tensor) -> Tensor:  # noqa: ARG002 - the scale is given here
        """Logits (n, k) from features (n, d)."""
        return self.scale * cosine(z, head["weight"]) if self.head == "cosine" else F.linear(z, **head)

    def features(self, meta: Meta, extra: P, inputs: Inputs) -> Tensor:
        params = trees.select(meta.params, "backbone")
        moved = tuning.tuned(self.tune, params, extra, self.alpha / self.rank) if extra else params
        return self.embed(trees.under("backbone", moved), meta.buffers, inputs)

    def _views(self, x: Tensor) -> Iterator[Tensor]:
        """The images of every step."""
        if self.augment is None:
            yield from [x] * self.steps
            return
        rows, draws = np.arange(len(x)), self.augment.draws
        u = np.stack([uniform(random_words(seed("finetune", i), rows, draws)) for i in range(self.steps)] or [rows[:0]])
        for numbers in transfer.to(x.device, u)[: self.steps]:
            yield self.augment(x.clone(), numbers)

    def _best(self, meta: Meta, support: Examples) -> Tensor:
        """The number of steps of the least loss on what a fold holds out, over all folds."""
        labels = members(support.y, self.problem.way, support.mask, support.x.dtype)
        place = (labels.cumsum(0) * labels).sum(1) - 1  # among those of its class
        several, real = labels @ labels.sum(0) >= 2, labels.sum(1) > 0
        total = torch.zeros(self.steps + 1, dtype=support.x.dtype, device=support.x.device)
        for fold in range(self.folds):
            held = several & real & (place % self.folds == fold)
            rest = support._replace(mask=real & ~held)
            losses = torch.stack([self._held_out(meta, fast, rest, held) for fast in self.path(meta, rest)])
            total = total + torch.where(held.any(), losses * held.sum(), 0)
        return torch.where(several.any(), total.argmin(), self.steps)

    @torch.no_grad()
    def _held_out(self, meta: Meta, fast: P, rest: Examples, held: Tensor) -> Tensor:
        out = rest._replace(mask=held)
        z = self.features(meta, trees.select(fast, "extra"), out.inputs)
        logits = self.classify(meta, self.classifier(meta, fast, rest), z)
        return self.problem.loss(self.problem.among(logits, rest), out)


def _either(condition: Tensor, a: P, b: P) -> P:
    """One of two trees; which, the device alone knows."""
    return trees.map_with(lambda one, other: torch.where(condition, one, other), a, b)
