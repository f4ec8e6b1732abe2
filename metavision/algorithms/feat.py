"""Few-shot learning by embedding adaptation with a transformer."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from metavision import trees
from metavision.algorithms.base import Algorithm, Score
from metavision.errors import InputError
from metavision.functional.distances import squared_euclidean
from metavision.functional.prototypes import prototypes
from metavision.nn import functional
from metavision.nn.normalisation import LayerNorm
from metavision.types import Episode, Examples, Inputs, Meta, joined


@dataclass(frozen=True, eq=False, kw_only=True)
class FEAT(Algorithm):
    """Prototypes that attend to each other before they are compared with queries.

    Reference:
        Few-Shot Learning via Embedding Adaptation with Set-to-Set Functions (Ye et al., 2020),
        https://arxiv.org/abs/1812.03664. In training all examples of a class attend to each other too, and are to be
        near the mean of the class that comes of it (the balance's loss).

    The paper starts from a pre-trained backbone: `init=` a run of `algo=baseline`. Differs in that one learning rate
    serves backbone and attention (there ten times more for the latter), and that no weights of the attention are
    dropped.

    Args:
        temperature: of the distances; likewise `balance_temperature`, of those in the balance's loss.
        balance: weight of that loss; 0.01 for 1 shot and 0.1 for 5 in the paper.
        drop: of what the attention adds, in training.
    """

    temperature: float = 64.0
    balance: float = 0.01
    balance_temperature: float = 64.0
    drop: float = 0.5
    attention: nn.Module = field(init=False, repr=False)

    frozen: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and self.balance_temperature > 0 and self.balance >= 0 and 0 <= self.drop < 1):
            raise InputError(
                f"algo.temperature={self.temperature} and algo.balance_temperature={self.balance_temperature} must be "
                f"above 0, algo.balance={self.balance} at least 0, algo.drop={self.drop} from 0 to below 1"
            )
        # Now, as a layer draws from the global generator as it is made, which under vmap it may not.
        with torch.random.fork_rng(devices=[]):
            attention = Attention(self.backbone.features, self.drop).train(self.backbone.training)
        object.__setattr__(self, "attention", attention)

    def init(self, generator: torch.Generator) -> Meta:
        params = super().init(generator).params
        return Meta(params | trees.under("attention", functional.initial(self.attention, generator)), {})

    def adapt(self, meta: Meta, support: Examples, unlabelled: Inputs | None = None) -> Tensor:  # noqa: ARG002
        """Adapted prototypes (k, d)."""
        return self._adapted(meta, self.embed(meta.params, meta.buffers, support.inputs), support)

    def predict(self, meta: Meta, task: Tensor, query: Inputs) -> Tensor:
        z = self.embed(meta.params, meta.buffers, query)
        return -squared_euclidean(z, task) / self.temperature

    def score(self, meta: Meta, episode: Episode) -> Score:
        """In training, the balance's loss too; so features are had once for both."""
        if not (self.balance and self.backbone.training):
            return super().score(meta, episode)
        support, query, _ = episode
        z, zq = (self.embed(meta.params, meta.buffers, part.inputs) for part in (support, query))
        logits = -squared_euclidean(zq, self._adapted(meta, z, support)) / self.temperature
        logits = self.problem.among(logits, support)
        balance = self._balance(meta, torch.cat([z, zq]), joined(support, query))
        return self.loss(logits, query) + self.balance * balance, self.problem.metrics(logits, query)

    def _adapted(self, meta: Meta, z: Tensor, support: Examples) -> Tensor:
        k = self.problem.way
        plain = prototypes(z, support.y, k, support.mask)
        present = prototypes(torch.ones_like(z[:, :1]), support.y, k, support.mask).squeeze(-1) > 0
        return self._attend(meta, plain, present.expand(k, k))

    def _balance(self, meta: Meta, z: Tensor, both: Examples) -> Tensor:
        """How far examples are from the means of their classes, after those of a class have attended to each other."""
        alike = both.y.unsqueeze(1) == both.y
        if both.mask is not None:
            alike = alike & both.mask | torch.eye(len(z), dtype=torch.bool, device=z.device)
        centres = prototypes(self._attend(meta, z, alike), both.y, self.problem.way, both.mask)
        logits = -squared_euclidean(z, centres) / self.balance_temperature
        return self.problem.loss(self.problem.among(logits, both), both)

    def _attend(self, meta: Meta, z: Tensor, to: Tensor) -> Tensor:
        params = trees.select(meta.params, "attention")
        return torch.func.functional_call(self.attention, params, (z, to))


class Attention(nn.Module):
    """One head: each of z (n, d) attends to those that `to` (n, n) allows; added to z and normalised."""

    def __init__(self, d: int, drop: float) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(d, d, bias=False) for _ in range(3))
        self.out, self.norm, self.drop = nn.Linear(d, d), LayerNorm(d), nn.Dropout(drop)

    def forward(self, z: Tensor, to: Tensor) -> Tensor:
        weights = self.query(z) @ self.key(z).T / z.shape[-1] ** 0.5
        weights = weights.masked_fill(~to, -torch.inf).softmax(-1)
        return self.norm(z + self.drop(self.out(weights @ self.value(z))))
