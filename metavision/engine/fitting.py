"""Which mapper suits an algorithm, its tasks and the device: by a rule that measures no time, so that it can be relied
on to say the same again.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
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


def fitted(algorithm: Algorithm, meta: Meta, task: Any, wanted: Wanted, *, train: bool, varied: bool = False) -> Mapper:
    """The mapper for an algorithm on tasks like `task` (a batch of one).

    On a GPU as many tasks at once as fit; on a CPU as many as make its calls worth their while, for large images one.
    What a task takes is known from a trial run.

    Args:
        algorithm: that is trained, or evaluated.
        meta: by which weights.
        task: a batch of one.
        wanted: what is asked for.
        train: whether gradients are taken.
        varied: whether the shapes of a batch differ from step to step.

    Raises:
        InputError: what is wanted can't be done here, or by this algorithm.
    """
    return _Fitting(algorithm, meta, task, wanted, train=train, varied=varied).rule()


def candidates(algorithm: Algorithm, meta: Meta, task: Any, wanted: Wanted, *, varied: bool = False) -> list[Mapper]:
    """The mappers of a training step that are worth a comparison, that of the rule first; see `fitted`."""
    fitting = _Fitting(algorithm, meta, task, wanted, train=True, varied=varied)
    rule = fitting.rule()
    if not algorithm.maps or wanted.mapping != "auto" or not meta.params:
        return [rule]
    return list(dict.fromkeys([rule, *fitting.loops(rule), *fitting.together()]))


class _Fitting:
    """What a choice is made of; the trial run is made when it is first asked for, once."""

    def __init__(
        self, algorithm: Algorithm, meta: Meta, task: Any, wanted: Wanted, *, train: bool, varied: bool
    ) -> None:
        self.algorithm, self.meta, self.task, self.wanted = algorithm, meta, task, wanted
        self.train, self.varied = train, varied
        self.place = _place(task)
        self.on_cpu = self.place.type == "cpu"
        self.memory = wanted.bytes(self.place)
        # Measured on CPUs alone; and what does not map is foreign code, which is left as it is.
        pays = self.on_cpu and algorithm.maps
        self.loop = Mapper(
            autocast=wanted.autocast,
            channels_last=pays if wanted.channels_last is None else wanted.channels_last,
            explicit=pays if wanted.explicit is None else wanted.explicit,
            recompute=bool(wanted.recompute),
        )

    def rule(self) -> Mapper:
        wanted = self.wanted
        if self.train and wanted.mapping == "graph":
            self._check_replayable()
        if self.train and not self.meta.params:
            return self.loop
        if not self.algorithm.maps or wanted.looped:
            return self._sparing()
        if self.chunk <= 1 and wanted.mapping == "auto":
            return self._sparing() if wanted.chunk is None else self.loop
        graph = wanted.mapping == "graph" and self.train  # what is replayed is a gradient
        return self._together("graph" if graph else "vmap", explicit=self.loop.explicit)

    def loops(self, rule: Mapper) -> Iterator[Mapper]:
        """One task after another; on a GPU, where that is slow, in all ways only if it is asked for."""
        loop = rule if rule.strategy == "loop" else self.loop
        if not (self.on_cpu or self.wanted.looped):
            yield loop
            return
        for last, explicit in product(_open(self.wanted.channels_last), _open(self.wanted.explicit)):
            yield replace(loop, channels_last=last, explicit=explicit)

    def together(self) -> Iterator[Mapper]:
        """Several tasks at once; on a GPU in all ways."""
        if self.wanted.looped:
            return
        for explicit in [self.loop.explicit] if self.on_cpu else _open(self.wanted.explicit):
            if self.chunk > 1:
                yield self._together("vmap", explicit=explicit)
            if self.chunk >= 1 and self.place.type == "cuda" and not self.varied and _steady(self.algorithm):
                yield self._together("graph", explicit=explicit)

    @cached_property
    def chunk(self) -> int:
        """How many tasks at once."""
        if self.wanted.chunk is not None:
            return self.wanted.chunk
        on_cpu = self.wanted.mapping == "auto" and self.on_cpu
        return self._needs.mapped_on_cpu(self.memory) if on_cpu else self._needs.mapped(self.memory)

    @cached_property
    def _needs(self) -> Footprint:
        """What a task takes; the trial is broken off where that is more than there is."""
        return self._tried(self.loop, self.memory)

    def _tried(self, mapper: Mapper, most: int | None = None) -> Footprint:
        return footprint(self.algorithm, self.meta, self.task, mapper, train=self.train, most=most)

    def _sparing(self) -> Mapper:
        """The loop, which recomputes inner steps where a task would take too much and this makes it less."""
        if not self.train or self.wanted.recompute is not None or not self.algorithm.maps or not self._needs.exceeded:
            return self.loop
        sparing = replace(self.loop, recompute=True)
        return sparing if self._tried(self.loop, self._tried(sparing).peak).exceeded else self.loop

    def _together(self, strategy: Literal["vmap", "graph"], *, explicit: bool) -> Mapper:
        # Networks of blocks are faster by a twentieth then; others are slower by a fifth, and torch maps no group
        # normalisation of such maps.
        last = self.on_cpu and explicit and self.wanted.channels_last is None and self._needs.blocks
        return Mapper(strategy, max(1, self.chunk), self.loop.autocast, last, explicit)

    def _check_replayable(self) -> None:
        """Raises InputError unless a training step can be one CUDA graph."""
        name = type(self.algorithm).__name__
        if self.place.type != "cuda":
            raise InputError(f"engine.mapping=graph needs a CUDA device, and this is {self.place.type}")
        if not self.algorithm.maps:
            raise InputError(f"engine.mapping=graph: {name} does not map; engine.mapping=loop does it")
        if self.varied:
            raise InputError(
                "engine.mapping=graph replays one computation, and the sizes of episodes vary; engine.mapping=vmap "
                "does it"
            )
        if not _steady(self.algorithm):
            raise InputError(
                f"engine.mapping=graph replays one computation, and {name} changes in the course of training; "
                "engine.mapping=vmap does it"
            )


def _open(asked: bool | None) -> tuple[bool, ...]:
    """What is left open by what is asked."""
    return (False, True) if asked is None else (asked,)


def _steady(algorithm: Algorithm) -> bool:
    """Whether it is the same all through training."""
    return same(algorithm.at(0.25)) == same(algorithm.at(0.75))


def _place(task: Any) -> torch.device:
    return trees.tensors(task)[0].device
