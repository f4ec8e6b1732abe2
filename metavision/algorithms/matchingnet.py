"""Matching networks."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metavision import trees
from metavision.algorithms.base import Algorithm
from metavision.errors import InputError
from metavision.functional.distances import cosine
from metavision.functional.lstm import lstm_cell
from metavision.nn import functional
from metavision.types import Examples, Inputs, Meta, P


class Memory(NamedTuple):
    """The support as it is attended to."""

    z: Tensor  # (S, d)
    absent: Tensor  # (S, k) bool: not of this class, or padding


@dataclass(frozen=True, eq=False, kw_only=True)
class MatchingNet(Algorithm):
    """A query's class by attention over the support: softmax of cosines.

    Reference:
        Matching Networks for One Shot Learning (Vinyals et al., 2016), https://arxiv.org/abs/1606.04080

    With full-context embeddings an LSTM reads the support in both directions, and another reads it for each query,
    attending, and the order of the support matters.

    Args:
        scale: of the cosines; 1 in the paper.
        context: full-context embeddings.
        reads: how often a query reads the support; null: as often as there are support images.
        normalise_query: cosines, as in the paper; else products with the queries as they are.
    """

    scale: float = 1.0
    context: bool = False
    reads: int | None = None
    normalise_query: bool = True

    frozen: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.scale > 0 or (self.reads is not None and self.reads < 0):
            raise InputError(f"algo.scale={self.scale} must be above 0, algo.reads={self.reads} not negative")

    def init(self, generator: torch.Generator) -> Meta:
        params = super().init(generator).params
        if self.context:
            d = self.backbone.features
            with torch.random.fork_rng(devices=[]):  # a layer draws from the global generator as it is made
                reader, cell = nn.LSTM(d, d, bidirectional=True), nn.LSTMCell(2 * d, d)
            params |= trees.under("support_reader", functional.initial(reader, generator))
            params |= trees.under("query_reader", functional.initial(cell, generator))
        return Meta(params, {})

    @property
    def ordered(self) -> bool:
        return self.context

    def adapt(self, meta: Meta, support: Examples, unlabelled: Inputs | None = None) -> Memory:  # noqa: ARG002
        z = self.embed(meta.params, meta.buffers, support.inputs)
        present = F.one_hot(support.y, self.problem.way).bool()
        if support.mask is not None:
            present = present & support.mask.unsqueeze(-1)
        if self.context:
            z = self._in_context(trees.select(meta.params, "support_reader"), z, present.any(-1))
        return Memory(z, ~present)

    def predict(self, meta: Meta, task: Memory, query: Inputs) -> Tensor:
        """Log-probabilities (n, k): of the attention, what falls to the examples of each class."""
        z = self.embed(meta.params, meta.buffers, query)
        if self.context:
            z = self._attending(trees.select(meta.params, "query_reader"), z, task)
        likeness = cosine(z, task.z) if self.normalise_query else z @ F.normalize(task.z, dim=-1).T  # (n, S)
        by_class = (self.scale * likeness).unsqueeze(-1).masked_fill(task.absent, -torch.inf)  # (n, S, k)
        return by_class.logsumexp(1).log_softmax(-1)

    def _in_context(self, reader: P, z: Tensor, present: Tensor) -> Tensor:
        """z plus what an LSTM makes of it, forwards and backwards; padding is passed over."""
        out = z
        for suffix, order in (("_l0", range(len(z))), ("_l0_reverse", reversed(range(len(z))))):
            h = c = z.new_zeros(1, z.shape[1])
            states: dict[int, Tensor] = {}
            for i in order:
                new_h, new_c = lstm_cell(reader, z[i : i + 1], h, c, suffix)
                h, c = torch.where(present[i], new_h, h), torch.where(present[i], new_c, c)
                states[i] = h
            out = out + torch.cat([states[i] for i in range(len(z))])
        return out

    def _attending(self, reader: P, z: Tensor, task: Memory) -> Tensor:
        """z after reading the support, by attention, a number of times."""
        nobody = task.absent.all(-1)
        h, c = z, torch.zeros_like(z)
        for i in range(len(task.z) if self.reads is None else self.reads):
            attention = (h @ task.z.T).masked_fill(nobody, -torch.inf).softmax(-1)
            new_h, new_c = lstm_cell(reader, torch.cat([z, attention @ task.z], -1), h, c)
            reading = i < (~nobody).sum() if self.reads is None else nobody.new_ones(())  # padding is not read
            h, c = torch.where(reading, new_h + z, h), torch.where(reading, new_c, c)
        return h
