"""Fast context adaptation."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metavision import trees
from metavision.algorithms.maml import MAML
from metavision.errors import InputError
from metavision.nn.functional import initial
from metavision.nn.normalisation import GroupNorm, NoNorm, Norm
from metavision.types import Examples, Inputs, Meta, P


@dataclass(frozen=True, eq=False, kw_only=True)
class CAVIA(MAML):
    """The inner loop moves a small context vector, from zero; a layer's maps are scaled and shifted by it.

    Reference:
        Fast Context Adaptation via Meta-Learning (Zintgraf et al., 2019), https://arxiv.org/abs/1810.03642: FiLM behind
        the normalisation of the third of four convolutions, by a linear layer from the context.

    Differs in that a channel's factor is 1 plus what the linear layer gives, so that training begins near the plain
    network.

    Args:
        context: numbers in the context vector.
        layer: behind which normalisation, counted from 0.
    """

    context: int = 100
    layer: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.moves != "all":
            raise InputError(f"algo.moves is {self.moves}; the inner loop moves the context alone; leave it out")
        if self.context < 1:
            raise InputError(f"algo.context is {self.context}; it must be at least 1")
        if not 0 <= self.layer < len(self._places()):
            raise InputError(
                f"algo.layer is {self.layer}; this backbone has {len(self._places())} normalised layers, counted from 0"
            )

    def init(self, generator: torch.Generator) -> Meta:
        meta = super().init(generator)
        with torch.random.fork_rng(devices=[]):  # a layer draws from the global generator as it is made
            film = nn.Linear(self.context, 2 * self._places()[self.layer].channels)
        kept = trees.without(meta.params, "rule")
        rule = self.rule.init(self._moving(self._with_context(kept)), generator)
        return Meta(kept | trees.under("film", initial(film, generator)) | trees.under("rule", rule), {})

    def before(self, meta: Meta, support: Examples) -> P:
        return self._with_context(super().before(meta, support))

    def outputs(self, weights: P, buffers: P, x: Inputs, step: int) -> Tensor:
        film = F.linear(weights["context"], weights["film.weight"], weights["film.bias"])
        factor, offset = (part.view(-1, 1, 1) for part in film.chunk(2))
        with _behind(self._places()[self.layer], lambda maps: maps * (1 + factor) + offset):
            return super().outputs(weights, buffers, x, step)

    def _moving(self, params: P) -> P:
        return {"context": params["context"]} if "context" in params else {}

    def _with_context(self, params: P) -> P:
        return params | {"context": params["head.weight"].new_zeros(self.context)}

    def _places(self) -> list[Norm | GroupNorm | NoNorm]:
        return [layer for layer in self.backbone.modules() if isinstance(layer, Norm | GroupNorm | NoNorm)]


@contextmanager
def _behind(layer: nn.Module, change: Any) -> Iterator[None]:
    """`change` of what the layer gives, for as long as this lasts."""
    hook = layer.register_forward_hook(lambda _layer, _inputs, output: change(output))
    try:
        yield
    finally:
        hook.remove()
