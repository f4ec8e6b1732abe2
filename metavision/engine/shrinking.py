"""Fewer tasks at once where the device has no memory left for as many."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import torch

from metavision.console import note
from metavision.engine.mapping import Mapper, count
from metavision.errors import MetavisionError, out_of_memory

T = TypeVar("T")


class NoMemory(MetavisionError):
    """The device can't hold what one task takes."""


class Shrinking:
    """A mapper that gives way: work that runs out of memory is done again with half of the tasks at once.

    The results are the same but for rounding, as they are for all mappers. What was found is kept for the work to come.

    Args:
        mapper: to begin with.
        train: whether inner steps may be recomputed, which is the last resort.
    """

    def __init__(self, mapper: Mapper, *, train: bool) -> None:
        self.mapper, self.train = mapper, train

    def __call__(self, work: Callable[[Mapper, Any], T], tasks: Any) -> T:
        """`work(mapper, tasks)` on a batch of tasks: a pure function, since it may be called again.

        Raises:
            NoMemory: it does not fit with one task at once.
        """
        while True:
            try:
                return work(self.mapper, tasks)
            except (RuntimeError, MemoryError) as error:  # torch's own error of CUDA is a RuntimeError
                if not out_of_memory(error):
                    raise
                smaller, what = self._smaller(count(tasks)), str(error)
            # Only here, where the error and with it the frames that hold tensors are gone.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if smaller is None:
                raise NoMemory(
                    f"one task at once takes more memory than there is ({what}); a smaller episode, image, "
                    "backbone or number of inner steps takes less"
                )
            note(f"out of memory with {self.mapper}; going on with {smaller}")
            self.mapper = smaller

    def _smaller(self, tasks: int) -> Mapper | None:
        mapper, at_once = self.mapper, min(self.mapper.chunk, tasks)
        if mapper.strategy != "loop":
            return replace(mapper, chunk=math.ceil(at_once / 2)) if at_once > 1 else replace(mapper, strategy="loop")
        return replace(mapper, recompute=True) if self.train and not mapper.recompute else None
