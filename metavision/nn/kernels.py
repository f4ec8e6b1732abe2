"""Loops over images that are compiled for the CPU, as operations of torch.

What is `torch.ops.metavision` is seen by whoever watches torch's operations, as `engine/footprint.py` does. Loops take
maps as (n, h, w, c), the order in which they lie in memory where channels are last.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from itertools import pairwise
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numba import njit
from torch import Tensor

from metavision import console
from metavision.cores import cores

Array = np.ndarray[Any, Any]

SHARED = 2**20  # bytes of maps for each thread at least: handing them over takes as long as a tenth of that
OPTIONS: Any = {"nogil": True, "error_model": "numpy"}
_library = torch.library.Library("metavision", "DEF")


def operation(function: Callable[..., Any]) -> Any:
    """The function as an operation of torch on a CPU, by its name and signature."""
    name = function.__name__
    _library.define(name + torch.library.infer_schema(function, mutates_args=()))
    _library.impl(name, function, "CPU")
    return getattr(torch.ops.metavision, name).default


def inner(part: Callable[..., Any]) -> Callable[..., Any]:
    """A part of loops, compiled with them."""
    return njit(**OPTIONS)(part)


class Loop:
    """A loop, compiled when it first meets arguments of some kinds, and kept on disk where that can be.

    It runs without Python's lock. Used as a decorator.
    """

    def __init__(self, loop: Callable[..., Any]) -> None:
        self._loop = loop
        self._met: set[tuple[Any, ...]] = set()
        try:
            self._run = njit(cache=True, **OPTIONS)(loop)
        except RuntimeError:  # there is no place for it
            self._run = njit(**OPTIONS)(loop)

    def __call__(self, *given: Any) -> Any:
        kinds = tuple(getattr(one, "dtype", None) for one in given)
        return self._run(*given) if kinds in self._met else self._first(kinds, given)

    def _first(self, kinds: tuple[Any, ...], given: tuple[Any, ...]) -> Any:
        try:
            with _alone(self._run.stats.cache_path):
                found = self._run(*given)
        except (OSError, EOFError, UnpicklingError):  # what is on disk is damaged, or the disk full
            self._run = njit(**OPTIONS)(self._loop)
            found = self._run(*given)
        if self._run.stats.cache_misses and console.stderr.is_terminal:
            _tell()
        self._met.add(kinds)
        return found


def _alone(folder: str | None) -> AbstractContextManager[Any]:
    """Of processes that keep loops of other kinds in one folder at once, one would file another's as its own."""
    return nullcontext() if folder is None else FileLock(Path(folder) / "metavision.lock")


@cache
def _tell() -> None:
    console.note("loops are being compiled for this CPU, some seconds, once")


def array(tensor: Tensor) -> Array:
    """A view of a vector (c,), or of maps (n, c, h, w) as (n, h, w, c)."""
    tensor = tensor.detach()
    return tensor.numpy().transpose(0, 2, 3, 1) if tensor.ndim == 4 else tensor.contiguous().numpy()


def vector(sums: Array, like: Tensor) -> Tensor:
    """Of the precision of maps."""
    return torch.from_numpy(sums).to(like.dtype)


def over_images(loop: Loop, maps: Array, *rest: Any) -> list[Any]:
    """What `loop(images, maps, *rest)` returns for ranges of images, which as many threads share as torch may use."""
    parts = max(1, min(torch.get_num_threads(), len(maps), maps.nbytes // SHARED))
    if parts == 1:
        return [loop((0, len(maps)), maps, *rest)]
    ends = [len(maps) * part // parts for part in range(parts + 1)]
    return list(_pool(os.getpid()).map(lambda images: loop(images, maps, *rest), pairwise(ends)))


@cache
def _pool(process: int) -> ThreadPoolExecutor:  # noqa: ARG001 - threads do not outlive a fork
    return ThreadPoolExecutor(cores(), "kernels")
