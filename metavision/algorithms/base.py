"""The contract of an algorithm. It is written for one task; the engine maps it over the tasks of a batch."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import torch
from torch import Tensor, nn

from metavision import trees
from metavision.backbones.base import Backbone
from metavision.nn import functional
from metavision.problems.base import Problem
from metavision.types import Episode, Examples, Inputs, Meta, Metrics, P

Score = tuple[Tensor, Metrics]
AT_ONCE = 16  # queries that are seen one by one, each with its support


class Choices(NamedTuple):
    """Candidates of one method."""

    options: Mapping[str, Meta]  # the same parameters with other buffers, by a name to be printed
    episodes: int  # of validation that each is tried on


class Mapper(Protocol):
    """What the engine lends to `meta_grad`."""

    def mean_grad(self, score: Callable[[P, Any], Score], params: P, tasks: Any) -> tuple[P, Metrics]:
        """The gradient, by params, of the mean of `score(params, task)` over tasks; and the mean loss and metrics."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Algorithm(ABC):
    """Hyper-parameters and module structure; all that is learned is in `Meta`, passed in and returned.

    Args:
        backbone: images to features.
        problem: what the outputs mean and how they are scored.
    """

    backbone: Backbone
    problem: Problem

    regresses: ClassVar[bool] = False  # whether targets may be numbers, too
    diet: ClassVar[str] = "episodes"  # or "batches", for pre-training
    mapping: ClassVar[str] = "vmap"  # or "loop", for code that does not map
    frozen: ClassVar[bool] = False  # whether images matter through `embed` alone, by the weights of `meta`

    @property
    def maps(self) -> bool:
        """Whether tasks can be mapped at once."""
        return self.mapping != "loop" and self.backbone.maps

    @property
    def normalising(self) -> Mapping[str, nn.Module]:
        """The modules with layers of moments, by the name that their parameters are under."""
        return {"backbone": self.backbone}

    @property
    def uses_queries(self) -> bool:
        """Whether the method itself learns from the unlabelled queries."""
        return False

    @property
    def transductive(self) -> bool:
        """Whether queries can influence each other's predictions, by method or by normalisation."""
        return self.uses_queries or self.backbone.norm == "batch"

    def init(self, generator: torch.Generator) -> Meta:
        """What meta-training starts from: a function of the generator alone."""
        return Meta(trees.under("backbone", functional.initial(self.backbone, generator)), {})

    @abstractmethod
    def adapt(self, meta: Meta, support: Examples, unlabelled: Inputs | None = None) -> Any:
        """What the support teaches: fast weights, prototypes, a head; any pytree of tensors.

        Args:
            meta: as returned by `init` or moved from there.
            support: S examples of one task.
            unlabelled: the query images, given to transductive methods alone; to others, the unlabelled images of a
                semi-supervised episode.
        """

    @abstractmethod
    def predict(self, meta: Meta, task: Any, query: Inputs) -> Tensor:
        """Logits (n, k) of the query images, from what `adapt` returned."""

    def score(self, meta: Meta, episode: Episode) -> Score:
        """Loss and metrics on the query after adaptation to the support."""
        logits = self.solve(meta, episode)
        return self.loss(logits, episode.query), self.problem.metrics(logits, episode.query)

    def solve(self, meta: Meta, episode: Episode) -> Tensor:
        """Logits (Q, k) of the query after adaptation to the support; absent classes have no chance."""
        task = self.adapt(meta, episode.support, self.given(episode))
        outputs = self.answers(meta, task, episode.support, episode.query.inputs)
        outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))  # of bfloat16, means have three digits
        return self.problem.among(outputs, episode.support)

    def given(self, episode: Episode) -> Inputs | None:
        """The images without labels that `adapt` is given."""
        return episode.query.inputs if self.uses_queries else episode.unlabelled

    def answers(self, meta: Meta, task: Any, support: Examples, query: Inputs) -> Tensor:
        """Logits (Q, k) of the query by what `adapt` returned, seen together or not as the policy has it."""
        if self.backbone.norm == "each":
            return self.one_by_one(meta, task, support, query.x)
        return self.predict(self.for_queries(meta, task, support), task, query)

    def for_queries(self, meta: Meta, task: Any, support: Examples) -> Meta:
        """Meta with the statistics of the support by the adapted weights, where that is the policy of queries.

        Their variance is unbiased, as of running statistics, where that of a batch is not.
        """
        if self.backbone.norm != "support":
            return meta
        with ExitStack() as watching:
            seen = {
                name: watching.enter_context(functional.moments_seen(part)) for name, part in self.normalising.items()
            }
            self.predict(meta, task, support.inputs)
        buffers = dict(meta.buffers)
        for name, found in seen.items():
            buffers |= trees.under(name, functional.statistics(found))
        return Meta(meta.params, buffers)

    def one_by_one(self, meta: Meta, task: Any, support: Examples, x: Tensor) -> Tensor:
        """Outputs (Q, k) of the images x (Q, C, H, W), each seen with the support and without the rest."""
        mask = None if support.mask is None else torch.cat([support.mask, support.mask.new_ones(1)])

        def one(image: Tensor) -> Tensor:
            return self.predict(meta, task, Inputs(torch.cat([support.x, image.unsqueeze(0)]), mask))[-1]

        return torch.vmap(one, chunk_size=AT_ONCE)(x) if self.maps else torch.stack([one(image) for image in x])

    def loss(self, logits: Tensor, query: Examples) -> Tensor:
        """What the logits (n, k) of the query cost, as the method trains."""
        return self.problem.loss(logits, query)

    def meta_grad(self, meta: Meta, tasks: Any, mapper: Mapper) -> tuple[P, Metrics]:
        """The direction that the outer optimizer descends, shaped as `meta.params`, and what to log.

        Of parameters under `carried.`, what is taken off them.

        Args:
            meta: where training stands.
            tasks: T episodes as one `Episode`; by a diet of batches, T batches of images as one `Examples`.
            mapper: maps over T.
        """
        return mapper.mean_grad(
            lambda params, episode: self.score(Meta(params, meta.buffers), episode), meta.params, tasks
        )

    @property
    def ordered(self) -> bool:
        """Whether the order of the support matters."""
        return False

    @property
    def exact(self) -> bool:
        """Whether `meta_grad` is the slope of the mean score."""
        return True

    def at(self, progress: float) -> Self:  # noqa: ARG002
        """The same algorithm at a fraction of meta-training, for those whose training changes on the way."""
        return self

    def for_evaluation(self) -> Self:
        """The same algorithm with its test-time settings: nothing is dropped at random."""
        return replace(self, backbone=copy.deepcopy(self.backbone).eval())

    def normalised(self, policy: str) -> Self:
        """The same algorithm with its layers of moments under another of their policies.

        Raises:
            InputError: what it learned does not go with that.
        """
        return replace(self, backbone=self.backbone.normalised(policy))

    def choices(self, meta: Meta) -> Choices | None:  # noqa: ARG002
        """What is chosen among on validation episodes once meta-training is over; None: nothing is."""
        return None

    def before_adaptation(self) -> Self | None:
        """The same algorithm without any update, for inner-loop methods: its accuracy must be 1/k."""
        return None

    def calibrate(self, meta: Meta, x: Tensor) -> Meta:
        """Meta with the normalisation statistics of the images x (n, C, H, W), where the policy keeps any.

        Those that came with pre-trained weights are the network's whatever x is; with them weights are whole.
        """
        if self.backbone.norm == "stored":
            kept = {name: t.to(x.device) for name, t in functional.stored(self.backbone).items()}
            return Meta(meta.params, {**meta.buffers, **trees.under("backbone", kept)})
        if self.backbone.norm != "running":
            return meta
        statistics = functional.calibrate(self.backbone, trees.select(meta.params, "backbone"), x)
        return Meta(meta.params, {**meta.buffers, **trees.under("backbone", statistics)})

    def embed(self, params: P, buffers: P, inputs: Inputs) -> Tensor:
        """Features (n, d) by the parameters and buffers under `backbone`."""
        return functional.apply(
            self.backbone, trees.select(params, "backbone"), trees.select(buffers, "backbone"), inputs
        )
