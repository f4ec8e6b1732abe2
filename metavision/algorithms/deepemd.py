"""The earth mover's distance between maps."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad

from metavision.algorithms.base import Algorithm
from metavision.errors import InputError
from metavision.functional.prototypes import members, prototypes
from metavision.functional.sinkhorn import sinkhorn
from metavision.types import Examples, Inputs, Meta

LEAST = 1e-3  # weight of a place that is like nothing on the other side
MOMENTUM = 0.9


@dataclass(frozen=True, eq=False, kw_only=True)
class DeepEMD(Algorithm):
    """A query is as like a class as its map's places can be moved onto those of the class.

    Reference:
        DeepEMD: Few-Shot Image Classification with Differentiable Earth Mover's Distance and Structured Classifiers
        (Zhang et al., 2020), https://arxiv.org/abs/2003.06777. A place's weight is its likeness to the mean of the
        other map. Classes of several shots have a learned map (structured fully connected layer), by SGD on their
        support.

    Starts from a pre-trained backbone: `init=` a run of `algo=baseline backbone=resnet12_map`. Differs in that the
    transport has a small entropy, which maps over pairs and tasks (there a linear program for each pair), and in that
    the learned maps see the whole support in every step (there batches of 4, and passes over the support are counted).

    Args:
        temperature: of the likeness.
        epsilon: of the entropy; the plan is the linear program's as it goes to 0.
        iterations: of Sinkhorn's algorithm.
        through_plan: differentiate through the plan too; as in the authors' code, only the likenesses are, by default.
        refine: steps that learn a class's map where there are several shots.
        rate: their learning rate.
    """

    temperature: float = 12.5
    epsilon: float = 0.02
    iterations: int = 30
    through_plan: bool = False
    refine: int = 100
    rate: float = 0.1

    frozen: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (
            self.temperature > 0 and self.epsilon > 0 and self.iterations >= 1 and self.refine >= 0 and self.rate > 0
        ):
            raise InputError(
                f"algo.temperature={self.temperature}, algo.epsilon={self.epsilon} and algo.rate={self.rate} must be "
                "above 0, "
                f"algo.iterations={self.iterations} at least 1, algo.refine={self.refine} at least 0"
            )

    @property
    def exact(self) -> bool:
        return self.through_plan

    def adapt(self, meta: Meta, support: Examples, unlabelled: Inputs | None = None) -> Tensor:  # noqa: ARG002
        """Maps of the classes (k, d), flattened."""
        z = self.embed(meta.params, meta.buffers, support.inputs)
        maps = prototypes(z, support.y, self.problem.way, support.mask)
        if len(z) <= self.problem.way:
            return maps
        fixed, velocity = z.detach(), None

        def loss(maps: Tensor) -> Tensor:
            return self.problem.loss(self.problem.among(self._likeness(fixed, maps), support), support)

        change = torch.zeros_like(maps)
        for _ in range(self.refine):
            slope = grad(loss)(maps.detach() + change)
            velocity = slope if velocity is None else MOMENTUM * velocity + (1 - MOMENTUM) * slope
            change = change - self.rate * velocity
        if support.mask is not None:  # of one shot, behind the padding
            classes = members(support.y, self.problem.way, support.mask, z.dtype).amax(0).sum()
            change = torch.where(support.mask.sum() > classes, change, 0.0)
        return maps + change

    def predict(self, meta: Meta, task: Tensor, query: Inputs) -> Tensor:
        return self._likeness(self.embed(meta.params, meta.buffers, query), task)

    def _likeness(self, z: Tensor, maps: Tensor) -> Tensor:
        """(n, k), of flattened maps (n, d) and (k, d)."""
        a, b = (self._places(part) for part in (z, maps))  # (n, places, c), (k, places, c)
        centred = [F.normalize(part - part.mean(-1, keepdim=True), dim=-1) for part in (a, b)]
        like = torch.einsum("nic,kjc->nkij", *centred)
        of_query = F.relu(torch.einsum("nic,kc->nki", a, b.mean(1))) + LEAST
        of_class = F.relu(torch.einsum("kjc,nc->nkj", b, a.mean(1))) + LEAST
        problem = (1 - like, of_query / of_query.sum(-1, keepdim=True), of_class / of_class.sum(-1, keepdim=True))
        cost, p, q = problem if self.through_plan else (part.detach() for part in problem)
        plan = sinkhorn(cost, p, q, self.epsilon, self.iterations)
        return self.temperature * (plan * like).sum((-2, -1))

    def _places(self, z: Tensor) -> Tensor:
        c, h, w = self.backbone.map
        return z.view(z.shape[0], c, h * w).mT
