"""Mapping a function of one task over the tasks of a batch: the strategies, all with the same results."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch.func import vmap
from torch.utils import _pytree as pytree

from metavision import trees
from metavision.algorithms.base import Algorithm
from metavision.engine.graphs import Replayed, same
from metavision.nn.modes import Modes, under
from metavision.types import Meta, Metrics, P

Score = Callable[[P, Any], tuple[torch.Tensor, Metrics]]
Strategy = Literal["loop", "vmap", "graph"]


@dataclass(frozen=True)
class Mapper:
    """Maps over tasks; whatever the strategy, results are the same but for rounding.

    Args:
        strategy: `loop`, one task after another: the faster on CPUs where a task's activations fill their caches;
            `vmap`, several at once: where calls or launches take the time; `graph`, as `vmap`, with `meta_grad`
            replayed as a CUDA graph.
        chunk: how many tasks are mapped at once by `vmap` and `graph`, at most.
        autocast: run under bfloat16 autocast.
        channels_last: kernels lie in memory with their channels last, and of `loop` images, too.
        explicit: see `metavision.nn.modes`.
        recompute: of `loop`, see there.
    """

    strategy: Strategy = "loop"
    chunk: int = 1
    autocast: bool = False
    channels_last: bool = False
    explicit: bool = False
    recompute: bool = False

    def __str__(self) -> str:
        tasks = "one task after another" if self.strategy == "loop" else f"up to {self.chunk} tasks at once"
        how = {
            "as a CUDA graph": self.strategy == "graph",
            "channels last": self.channels_last,
            "explicit derivatives": self.explicit,
            "inner steps recomputed": self.recompute,
        }
        return ", ".join([tasks, *(words for words, is_so in how.items() if is_so)])

    def map(self, function: Callable[[P, Any], Any], params: P, tasks: Any) -> Any:
        """`function(params, task)` of every task, stacked along a leading T."""
        params = self._laid_out(params)
        with under(self._modes):
            return trees.concatenate(self._run(function, params, tasks, at) for at in self._chunks(tasks))

    def mean_grad(self, score: Score, params: P, tasks: Any) -> tuple[P, Metrics]:
        """The gradient of the mean score by params; and the mean loss and metrics, detached.

        The graph of a chunk is freed before the next is made, so memory does not grow with the tasks.
        """
        leaves = {name: p.requires_grad_() for name, p in self._laid_out(trees.detach(params)).items()}
        total = {name: torch.zeros_like(p) for name, p in params.items()}
        logs: list[Metrics] = []
        for at in self._chunks(tasks):
            with under(self._modes):
                losses, metrics = self._run(score, leaves, tasks, at)
                grads = torch.autograd.grad(
                    losses.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True
                )
            total = {name: sum_.add_(g) for (name, sum_), g in zip(total.items(), grads, strict=True)}
            logs.append({"loss": losses.detach(), **trees.detach(metrics)})
        means = {name: values.mean() for name, values in trees.concatenate(logs).items()}
        return trees.scale(total, 1 / count(tasks)), means

    def meta_grad(self, algorithm: Algorithm, meta: Meta, tasks: Any) -> tuple[P, Metrics]:
        """`algorithm.meta_grad`, which is a function of these alone: `graph` replays it whole.

        Raises:
            InputError: it can't be captured.
        """
        if self.strategy != "graph":
            return algorithm.meta_grad(meta, tasks, self)

        def step(given: tuple[Meta, Any]) -> tuple[P, Metrics]:
            return algorithm.meta_grad(*given, mapper=self)

        return self._replayed(step, (meta, tasks), same(algorithm))

    @cached_property
    def _replayed(self) -> Replayed:
        return Replayed()

    @property
    def _modes(self) -> Modes:
        return Modes(self.explicit, self.recompute)

    def _chunks(self, tasks: Any) -> Iterator[slice]:
        many = count(tasks)
        parts = many if self.strategy == "loop" else math.ceil(many / self.chunk)
        size = math.ceil(many / max(parts, 1))  # of 32 tasks by 15 at most, 11, 11 and 10
        return (slice(start, start + size) for start in range(0, many, size))

    def _run(self, function: Callable[[P, Any], Any], params: P, tasks: Any, at: slice) -> Any:
        device = trees.tensors(tasks)[0].device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.autocast):
            if self.strategy == "loop":
                return trees.stack([function(params, self._laid_out(trees.index(tasks, at.start)))])
            some = trees.index(tasks, at)
            in_dims = pytree.tree_map(lambda leaf: 0 if isinstance(leaf, torch.Tensor) else None, some)
            return vmap(function, (None, in_dims), randomness="different")(params, some)

    def _laid_out(self, tree: Any) -> Any:
        """With what has four dimensions in the memory format asked for."""
        if not self.channels_last:
            return tree
        return pytree.tree_map(
            lambda leaf: (
                leaf.contiguous(memory_format=torch.channels_last)
                if isinstance(leaf, torch.Tensor) and leaf.ndim == 4
                else leaf
            ),
            tree,
        )


def count(tasks: Any) -> int:
    """T of a batch of tasks."""
    return trees.tensors(tasks)[0].shape[0]
