"""Relation networks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metavision import trees
from metavision.algorithms.base import Algorithm
from metavision.errors import InputError
from metavision.functional.prototypes import members, prototypes
from metavision.nn import functional
from metavision.nn.normalisation import normalisation
from metavision.problems.classification import masked_mean
from metavision.types import Examples, Inputs, Meta

CALIBRATED = 24  # images, of which all pairs calibrate the normalisation of the relation module


POLICIES = {"layer": "group", "stored": "running", "support": "batch", "each": "batch"}  # by those of backbones


class Classes(NamedTuple):
    """What the support teaches."""

    maps: Tensor  # (k, d), flattened
    present: Tensor | None  # (k,) bool; None: all are


@dataclass(frozen=True, eq=False, kw_only=True)
class RelationNet(Algorithm):
    """A learned comparison of a query's map with that of each class.

    Reference:
        Learning to Compare: Relation Network for Few-Shot Learning (Sung et al., 2018),
        https://arxiv.org/abs/1711.06025: maps side by side, two convolutions, two layers, and a score in [0, 1] that is
        trained by squared errors.

    With `norm=batch`, as published, all queries are normalised together: transductive. Differs in that the relation
    module's convolutions are padded, so that maps of any size will do.

    Args:
        pool: a class's map is the `sum` of those of its examples, as in the paper, or their `mean`; with statistics
            that are calibrated, and so on single examples, their mean.
        hidden: units of the relation module's first layer.
    """

    pool: Literal["sum", "mean"] = "sum"
    hidden: int = 8
    relation: nn.Module = field(init=False, repr=False)

    frozen: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise InputError(f"algo.hidden is {self.hidden}; it must be at least 1")

        # Now, as a layer draws from the global generator as it is made, which under vmap it may not.
        with torch.random.fork_rng(devices=[]):
            object.__setattr__(self, "relation", Relation(self.backbone.map, self.hidden, self.backbone.norm))

    @property
    def normalising(self) -> Mapping[str, nn.Module]:
        return {**super().normalising, "relation": self.relation}

    @property
    def calibrated(self) -> bool:
        """Whether moments are those of statistics, once there are any."""
        return self.backbone.norm in ("running", "stored")

    def init(self, generator: torch.Generator) -> Meta:
        params = super().init(generator).params
        return Meta(params | trees.under("relation", functional.initial(self.relation, generator)), {})

    def adapt(self, meta: Meta, support: Examples, unlabelled: Inputs | None = None) -> Classes:  # noqa: ARG002
        z = self.embed(meta.params, meta.buffers, support.inputs)
        means = prototypes(z, support.y, self.problem.way, support.mask)
        n = members(support.y, self.problem.way, support.mask, z.dtype).sum(0)
        maps = means if self.pool == "mean" or self.calibrated else means * n.unsqueeze(-1)
        return Classes(maps, None if support.mask is None else n > 0)

    def predict(self, meta: Meta, task: Classes, query: Inputs) -> Tensor:
        """Scores before the logistic function that puts them in [0, 1]."""
        z, k = self.embed(meta.params, meta.buffers, query), len(task.maps)
        mask = None if query.mask is None else query.mask.repeat_interleave(k)
        if task.present is not None:
            there = task.present.repeat(len(z))
            mask = there if mask is None else mask & there
        params, buffers = (trees.select(part, "relation") for part in meta)
        scores = functional.apply(self.relation, params, buffers, Inputs(self._pairs(z, task.maps), mask))
        return scores.unflatten(0, (-1, k))

    def loss(self, logits: Tensor, query: Examples) -> Tensor:
        """Mean squared error over the classes that are there."""
        wrong = (logits.sigmoid() - F.one_hot(query.y, self.problem.way)).square()
        return masked_mean(wrong.sum(-1) / logits.isfinite().sum(-1), query.mask)

    def normalised(self, policy: str) -> Self:
        if policy == "running" and self.pool == "sum" and not self.calibrated:
            raise InputError(
                "norm=running takes statistics of single images, where this relation network learned with sums over "
                "the shots (algo.pool=sum); norm=each has queries apart, too"
            )
        return super().normalised(policy)

    def calibrate(self, meta: Meta, x: Tensor) -> Meta:
        """The relation module by all pairs of some of the images; most are of different classes, as in an episode."""
        meta = super().calibrate(meta, x)
        if not self.calibrated:
            return meta
        with torch.no_grad():
            z = self.embed(meta.params, meta.buffers, Inputs(x[:: max(1, len(x) // CALIBRATED)]))
            pairs = self._pairs(z, z)
            found = functional.calibrate(self.relation, trees.select(meta.params, "relation"), pairs)
        return Meta(meta.params, meta.buffers | trees.under("relation", found))

    def _pairs(self, z: Tensor, classes: Tensor) -> Tensor:
        """Every query's map with every class's: (n k, 2 c, h, w), the class first."""
        (n, d), k = z.shape, len(classes)
        both = torch.stack([classes.expand(n, k, d), z.unsqueeze(1).expand(n, k, d)], 2)
        c, h, w = self.backbone.map
        return both.reshape(n * k, 2 * c, h, w)


class Relation(nn.Module):
    """Two maps side by side (n, 2 c, h, w) to a number (n,)."""

    def __init__(self, shape: tuple[int, int, int], hidden: int, norm: str) -> None:
        super().__init__()
        c, h, w = shape
        self.convs = nn.ModuleList([nn.Conv2d(2 * c, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)])
        policy = POLICIES.get(norm, norm)
        self.norms = nn.ModuleList(normalisation(policy, c) for _ in self.convs)
        for _ in self.convs:
            h, w = max(h // 2, 1), max(w // 2, 1)
        self.first, self.last = nn.Linear(c * h * w, hidden), nn.Linear(hidden, 1)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x), mask))
            if min(x.shape[-2:]) > 1:
                x = F.max_pool2d(x, 2)
        return self.last(F.relu(self.first(x.flatten(1)))).squeeze(-1)
