"""Which mapper suits an algorithm, its tasks and the device: by a rule that measures no time, so that it can be relied
on to say the same again.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any, Literal

import torch

from metavision import trees
from metavision.algorithms.base import Algorithm
from metavision.engine.footprint import Footprint, footprint
from metavision.engine.graphs import same
from metavision.engine.mapping import Mapper
from metavision.errors import InputError
from metavision.types import Meta

GIB = 2**30
CPU_MEMORY = 4 * GIB
OF_A_GPU = 0.4  # of its memory; half of what is free may hold a split, and trial runs miss what libraries need


@dataclass(frozen=True)
class Wanted:
    """What is asked of a mapper; None leaves it to the rule.

    Args:
        mapping: a strategy, or `auto`.
        chunk: tasks at once.
        memory: GiB that the tasks of a chunk may hold; None: on a CPU 1, for one task 4; two fifths of a GPU's.
        channels_last: see `Mapper`, also for the others; true asks for a loop.
        explicit: derivatives of blocks by formulas.
        recompute: inner steps; true asks for a loop.
        autocast: run under bfloat16 autocast.

    Raises:
        InputError: they exclude each other.
    """

    mapping: Literal["auto", "loop", "vmap", "graph"] = "auto"
    chunk: int | None = None
    memory: float | None = None
    channels_last: bool | None = None
    explicit: bool | None = None
    recompute: bool | None = None
    autocast: bool = False

    def __post_init__(self) -> None:
        asked = [name for name in ("channels_last", "recompute") if getattr(self, name)]
        if asked and self.mapping in ("vmap", "graph"):
            raise InputError(f"engine.{asked[0]}=true is of engine.mapping=loop, and engine.mapping is {self.mapping}")

    @property
    def looped(self) -> bool:
        """Whether only a loop is as asked."""
        return self.mapping == "loop" or bool(self.channels_last or self.recompute)

    def bytes(self, place: torch.device) -> int:
        """`memory`, on a device."""
        if self.memory is not None:
            return int(min(self.memory * GIB, sys.maxsize))
        if place.type == "cuda":
            return int(OF_A_GPU * torch.cuda.get_device_properties(place).total_memory)
        return CPU_MEMORY


def fitted(algorithm: Algorithm, meta: Meta, task: Any, wanted: Wanted, *, train: bool) -> Mapper:
    """The mapper for an algorithm on tasks like `task` (a batch of one).

    On a GPU as many tasks at once as fit; on a CPU as many as make its calls worth their while, for large images one.
    What a task takes is known from a trial run.

    Raises:
        InputError: what is wanted can't be done here, or by this algorithm.
    """
    place, loop = _place(task), _loop(algorithm, task, wanted)
    if train and wanted.mapping == "graph":
        _check_replayable(algorithm, place)
    if train and not meta.params:
        return loop
    if not algorithm.maps or wanted.looped:
        return _sparing(loop, algorithm, meta, task, wanted) if train else loop
    chunk = wanted.chunk
    if chunk is None:
        needs = _needs(loop, algorithm, meta, task, wanted, train=train)
        on_cpu = wanted.mapping == "auto" and place.type == "cpu"
        memory = wanted.bytes(place)
        chunk = needs.mapped_on_cpu(memory) if on_cpu else needs.mapped(memory)
        if needs.exceeded and train:
            loop = _sparing(loop, algorithm, meta, task, wanted)
    if chunk <= 1 and wanted.mapping == "auto":
        return loop
    graph = wanted.mapping == "graph" and train  # what is replayed is a gradient
    return _together("graph" if graph else "vmap", max(1, chunk), loop)


def candidates(algorithm: Algorithm, meta: Meta, task: Any, wanted: Wanted) -> list[Mapper]:
    """The mappers of a training step that are worth a comparison, that of the rule first."""
    rule = fitted(algorithm, meta, task, wanted, train=True)
    if not algorithm.maps or wanted.mapping != "auto" or not meta.params:
        return [rule]
    loop = rule if rule.strategy == "loop" else _loop(algorithm, task, wanted)
    asked = [(False, True) if choice is None else (choice,) for choice in (wanted.channels_last, wanted.explicit)]
    loops = [replace(loop, channels_last=last, explicit=explicit) for last, explicit in product(*asked)]
    return list(dict.fromkeys([rule, *loops, *_at_once(loop, algorithm, meta, task, wanted)]))


def _at_once(loop: Mapper, algorithm: Algorithm, meta: Meta, task: Any, wanted: Wanted) -> Iterator[Mapper]:
    """The candidates that map several tasks at once."""
    place, chunk = _place(task), wanted.chunk
    if wanted.looped:
        return
    if chunk is None:
        needs = _needs(loop, algorithm, meta, task, wanted, train=True)
        memory = wanted.bytes(place)
        chunk = needs.mapped_on_cpu(memory) if place.type == "cpu" else needs.mapped(memory)
    if chunk > 1:
        yield _together("vmap", chunk, loop)
    if chunk >= 1 and place.type == "cuda" and _steady(algorithm):
        yield _together("graph", chunk, loop)


def _together(strategy: Literal["vmap", "graph"], chunk: int, loop: Mapper) -> Mapper:
    return Mapper(strategy, chunk, loop.autocast, explicit=loop.explicit)


def _loop(algorithm: Algorithm, task: Any, wanted: Wanted) -> Mapper:
    # Measured on CPUs alone; and what does not map is foreign code, which is left as it is.
    pays = _place(task).type == "cpu" and algorithm.maps
    return Mapper(
        autocast=wanted.autocast,
        channels_last=pays if wanted.channels_last is None else wanted.channels_last,
        explicit=pays if wanted.explicit is None else wanted.explicit,
        recompute=bool(wanted.recompute),
    )


def _sparing(loop: Mapper, algorithm: Algorithm, meta: Meta, task: Any, wanted: Wanted) -> Mapper:
    """The loop, which recomputes inner steps where a task would take too much and this makes it less."""
    if wanted.recompute is not None or not algorithm.maps:
        return loop
    tried, sparing = partial(footprint, algorithm, meta, task, train=True), replace(loop, recompute=True)
    if not tried(loop, most=wanted.bytes(_place(task))).exceeded:
        return loop
    return sparing if tried(loop, most=tried(sparing).peak).exceeded else loop


def _needs(loop: Mapper, algorithm: Algorithm, meta: Meta, task: Any, wanted: Wanted, *, train: bool) -> Footprint:
    """What a task takes; the trial is broken off where that is more than there is."""
    return footprint(algorithm, meta, task, loop, train=train, most=wanted.bytes(_place(task)))


def _check_replayable(algorithm: Algorithm, place: torch.device) -> None:
    """Raises InputError unless a training step can be one CUDA graph."""
    name = type(algorithm).__name__
    if place.type != "cuda":
        raise InputError(f"engine.mapping=graph needs a CUDA device, and this is {place.type}")
    if not algorithm.maps:
        raise InputError(f"engine.mapping=graph: {name} does not map; engine.mapping=loop does it")
    if not _steady(algorithm):
        raise InputError(
            f"engine.mapping=graph replays one computation, and {name} changes in the course of training; "
            "engine.mapping=vmap does it"
        )


def _steady(algorithm: Algorithm) -> bool:
    """Whether it is the same all through training."""
    return same(algorithm.at(0.25)) == same(algorithm.at(0.75))


def _place(task: Any) -> torch.device:
    return trees.tensors(task)[0].device
