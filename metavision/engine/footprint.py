"""What a task takes, counted by a trial run."""

import weakref
from contextlib import suppress
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from metavision import trees
from metavision.algorithms.base import Algorithm
from metavision.engine.mapping import Mapper
from metavision.types import Meta

TOGETHER = 2**19  # bytes made a call, on a CPU: measured on MAML at 28 and 84 pixels, gains end there
MOST_TASKS, MOST_BYTES = 256, 2**30  # tasks and bytes at once on a CPU
MARGIN = 1.1  # times one task's peak that each of many takes: 0.9 to 1.05 over all algorithms


class _TooMuchError(Exception):
    pass


class Footprint(TorchDispatchMode):
    """What one task takes: the bytes that are made, each once however many tensors share them, those alive at once, and
    the calls.

    Below the transforms of torch.func, so that the inner gradients are counted; deterministic, so that a resumed run
    is cut into the same chunks.

    Args:
        most: bytes alive at which the trial is broken off; None: it goes to its end.
    """

    def __init__(self, most: int | None = None) -> None:
        super().__init__()
        self.most = most
        self.made = self.alive = self.peak = self.calls = 0
        self.blocks = False  # whether there are such as take derivatives by formulas of their own
        self._held: set[int] = set()  # storages that were made and are alive

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Whether torch imports its compiler, a second's work, to keep it off; it is not used here."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.calls += 1
        self.blocks |= func.namespace == "metavision"
        given = {tensor.untyped_storage().data_ptr() for tensor in trees.tensors((args, kwargs))}
        for tensor in trees.tensors(out):
            storage = tensor.untyped_storage()
            if (key := storage.data_ptr()) in self._held | given:  # a view, or written in place
                continue
            size = storage.nbytes()
            self._held.add(key)
            self.made += size
            self.alive += size
            weakref.finalize(storage, self._freed, key, size)
        self.peak = max(self.peak, self.alive)
        if self.exceeded:
            raise _TooMuchError
        return out

    def _freed(self, key: int, size: int) -> None:
        self._held.discard(key)
        self.alive -= size

    @property
    def exceeded(self) -> bool:
        """Whether more than `most` were alive, so that the other figures are of a part of the trial."""
        return self.most is not None and self.peak > self.most

    def mapped_on_cpu(self, memory: int) -> int:
        """How many tasks are mapped at once on a CPU: as fit, until more to a call don't help."""
        return min(TOGETHER * self.calls // max(self.made, 1), MOST_TASKS, self.mapped(min(MOST_BYTES, memory)))

    def mapped(self, memory: int) -> int:
        """How many tasks fit into so many bytes."""
        return 0 if self.exceeded else int(memory / (MARGIN * max(self.peak, 1)))


def footprint(
    algorithm: Algorithm, meta: Meta, task: Any, mapper: Mapper, *, train: bool, most: int | None = None
) -> Footprint:
    """That of a task (a batch of one), by a mapper.

    Args:
        algorithm: whose training, or whose score, is tried.
        meta: by which weights.
        task: a batch of one.
        mapper: how.
        train: whether gradients are taken.
        most: bytes alive at which the trial is broken off.
    """
    needs = Footprint(most)
    with torch.random.fork_rng(devices=trees.cuda(task)), suppress(_TooMuchError), needs:
        if train:
            algorithm.meta_grad(meta, task, mapper)
        else:
            with torch.no_grad():
                mapper.map(
                    lambda params, episode: algorithm.score(Meta(params, meta.buffers), episode)[0], meta.params, task
                )
    return needs
