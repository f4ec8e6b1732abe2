"""Mapping a function of one task over the tasks of a batch, in chunks that fit into memory."""

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.func import vmap
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from metavision import trees
from metavision.algorithms.base import Algorithm
from metavision.types import Meta, Metrics, P

CPU_CHUNK = 256 * 2**20  # bytes made; measured on MAML and ProtoNet at 28 and 84 pixels: gains end near here
CALL, BANDWIDTH = 5e-6, 5e9  # seconds a call of a small operation, and bytes a second of large ones, on a CPU
MOST_ON_CPU, CPU_MEMORY = 256, 2**30  # tasks and bytes at once where calls take the time
Score = Callable[[P, Any], tuple[torch.Tensor, Metrics]]


@dataclass(frozen=True)
class Mapper:
    """Maps over tasks one after another (`loop`) or `chunk` of them at once (`vmap`); the results are the same.

    Args:
        strategy: `loop` is the faster on CPUs, where one task's activations stay in cache; `vmap` on GPUs, where
            launches dominate.
        chunk: how many tasks are mapped at once by `vmap`.
        autocast: run under bfloat16 autocast.
    """

    strategy: Literal["loop", "vmap"] = "loop"
    chunk: int = 1
    autocast: bool = False

    def map(self, function: Callable[[P, Any], Any], params: P, tasks: Any) -> Any:
        """`function(params, task)` of every task, stacked along a leading T."""
        return trees.concatenate(self._run(function, params, tasks, at) for at in self._chunks(tasks))

    def mean_grad(self, score: Score, params: P, tasks: Any) -> tuple[P, Metrics]:
        """The gradient of the mean score by params; and the mean loss and metrics, detached.

        The graph of a chunk is freed before the next is made, so memory does not grow with the tasks.
        """
        leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
        total = {name: torch.zeros_like(p) for name, p in params.items()}
        logs: list[Metrics] = []
        for at in self._chunks(tasks):
            losses, metrics = self._run(score, leaves, tasks, at)
            grads = torch.autograd.grad(losses.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True)
            total = {name: sum_ + g for (name, sum_), g in zip(total.items(), grads, strict=True)}
            logs.append({"loss": losses.detach(), **trees.detach(metrics)})
        means = {name: values.mean() for name, values in trees.concatenate(logs).items()}
        return trees.scale(total, 1 / count(tasks)), means

    def _chunks(self, tasks: Any) -> Iterator[slice]:
        size = 1 if self.strategy == "loop" else self.chunk
        return (slice(start, start + size) for start in range(0, count(tasks), size))

    def _run(self, function: Callable[[P, Any], Any], params: P, tasks: Any, at: slice) -> Any:
        device = trees.tensors(tasks)[0].device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.autocast):
            if self.strategy == "loop":
                return trees.stack([function(params, trees.index(tasks, at.start))])
            some = trees.index(tasks, at)
            in_dims = pytree.tree_map(lambda leaf: 0 if isinstance(leaf, torch.Tensor) else None, some)
            return vmap(function, (None, in_dims), randomness="different")(params, some)


def count(tasks: Any) -> int:
    """T of a batch of tasks."""
    return trees.tensors(tasks)[0].shape[0]


class Footprint(TorchDispatchMode):
    """What one task takes: the bytes of all tensors that are made, of those alive at once, and the calls.

    Below the transforms of torch.func, so that the inner gradients are counted; deterministic, so that a resumed run
    is cut into the same chunks.
    """

    def __init__(self) -> None:
        super().__init__()
        self.made = self.alive = self.peak = self.calls = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Whether torch imports its compiler, a second's work, to keep it off; it is not used here."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.calls += 1
        for tensor in trees.tensors(out):
            size = tensor.numel() * tensor.element_size()
            self.made += size
            self.alive += size
            weakref.finalize(tensor, self._freed, size)
        self.peak = max(self.peak, self.alive)
        return out

    def _freed(self, size: int) -> None:
        self.alive -= size

    def mapped_on_cpu(self, *, train: bool) -> int:
        """How many tasks are mapped at once on a CPU."""
        if not train and self.calls * CALL > self.made / BANDWIDTH:  # the calls are what takes the time
            return min(MOST_ON_CPU, CPU_MEMORY // max(self.peak, 1))
        return CPU_CHUNK // max(self.made, 1)

    def mapped(self, memory: int, *, train: bool) -> int:
        """How many tasks fit into so many bytes; in training the graph keeps all that is made."""
        return memory // max(self.made if train else self.peak, 1)


def fitted(
    algorithm: Algorithm,
    meta: Meta,
    task: Any,
    *,
    strategy: Literal["auto", "loop", "vmap"],
    chunk: int | None,
    memory: float,
    autocast: bool,
    train: bool,
) -> Mapper:
    """The mapper for an algorithm on tasks like `task` (a batch of one).

    Args:
        strategy: `auto` maps where the algorithm allows it: on a GPU as many tasks as fit; on a CPU while a chunk
            stays small, since there the gain is in shared overheads, and ends where activations leave the cache.
        chunk: tasks at once; None: as many as fit into `memory`.
        memory: GiB that a chunk may hold; its need is known from a trial run of one task.
        autocast: run under bfloat16 autocast.
        train: whether gradients are taken.
    """
    if algorithm.mapping == "loop" or strategy == "loop" or (train and not meta.params):
        return Mapper("loop", 1, autocast)
    if chunk is None:
        on_cpu = trees.tensors(task)[0].device.type == "cpu"
        needs = _footprint(algorithm, meta, task, train=train)
        if strategy == "auto" and on_cpu:
            chunk = max(1, needs.mapped_on_cpu(train=train))
        else:
            chunk = max(1, needs.mapped(int(memory * 2**30), train=train))
    return Mapper("vmap" if chunk > 1 or strategy == "vmap" else "loop", chunk, autocast)


def _footprint(algorithm: Algorithm, meta: Meta, task: Any, *, train: bool) -> Footprint:
    one = Mapper("loop")
    with torch.random.fork_rng(devices=[]), Footprint() as needs:
        if train:
            algorithm.meta_grad(meta, task, one)
        else:
            with torch.no_grad():
                one.map(
                    lambda params, episode: algorithm.score(Meta(params, meta.buffers), episode)[0], meta.params, task
                )
    return needs
