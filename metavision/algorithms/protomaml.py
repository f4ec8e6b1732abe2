"""MAML whose head begins as a prototypical network."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from metavision import trees
from metavision.algorithms.base import Algorithm
from metavision.algorithms.maml import MAML
from metavision.functional.prototypes import prototypes
from metavision.types import Examples, Meta, P


@dataclass(frozen=True, eq=False, kw_only=True)
class ProtoMAML(MAML):
    """The inner loop begins with the linear head that equals a prototypical network, and has no other head.

    Reference:
        Meta-Dataset (Triantafillou et al., 2020), https://arxiv.org/abs/1903.03096, section 3: with prototypes c,
        -|z - c|^2 = 2 c'z - |c|^2 + what all classes share, so weights are 2 c and biases -|c|^2.

    So it needs no fixed number of classes. The gradient runs through the prototypes too, as in the paper.
    """

    regresses: ClassVar[bool] = False

    def init(self, generator: torch.Generator) -> Meta:
        params = Algorithm.init(self, generator).params
        k, d = self.problem.way, self.backbone.features
        head = {"head.weight": torch.zeros(k, d), "head.bias": torch.zeros(k)}  # only their shapes matter to a rule
        return Meta(params | trees.under("rule", self.rule.init(self._moving(params | head), generator)), {})

    def before(self, meta: Meta, support: Examples) -> P:
        c = prototypes(self.embed(meta.params, meta.buffers, support.inputs), support.y, self.problem.way, support.mask)
        return super().before(meta, support) | {"head.weight": 2 * c, "head.bias": -c.square().sum(-1)}

    def before_adaptation(self) -> None:
        """It is a prototypical network, and not at chance."""
        return
