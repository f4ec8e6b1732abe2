"""Loops over images that are compiled for the CPU, as operations of torch.

What is `torch.ops.metavision` is seen by whoever watches torch's operations, as `engine/footprint.py` does. Loops take
maps as (n, h, w, c), the order in which they lie in memory where channels are last.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

Array = np.ndarray[Any, Any]

SHARED = 2**20  # bytes of maps for each thread at least: handing them over takes as long as a tenth of that
_library = torch.library.Library("metavision", "DEF")


def operation(function: Callable[..., Any]) -> Any:
    """The function as an operation of torch on a CPU, by its name and signature."""
    name = function.__name__
    _library.define(name + torch.library.infer_schema(function, mutates_args=()))
    _library.impl(name, function, "CPU")
    return getattr(torch.ops.metavision, name).default


def compiled(loop: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled when it is first called, to run without Python's lock; kept on disk where that can be written."""
    try:
        return njit(cache=True, nogil=True, error_model="numpy")(loop)
    except RuntimeError:  # there is no place for it
        return njit(nogil=True, error_model="numpy")(loop)


def array(tensor: Tensor) -> Array:
    """A view of a vector (c,), or of maps (n, c, h, w) as (n, h, w, c)."""
    view = tensor.detach().numpy()
    return view.transpose(0, 2, 3, 1) if view.ndim == 4 else view


def vector(sums: Array, like: Tensor) -> Tensor:
    """Of the precision of maps."""
    return torch.from_numpy(sums).to(like.dtype)


def over_images(loop: Callable[..., Any], maps: Array, *rest: Any) -> list[Any]:
    """What `loop(images, maps, *rest)` returns for ranges of images, which as many threads share as torch may use."""
    parts = max(1, min(torch.get_num_threads(), len(maps), maps.nbytes // SHARED))
    if parts == 1:
        return [loop((0, len(maps)), maps, *rest)]
    ends = [len(maps) * part // parts for part in range(parts + 1)]
    return list(_pool(os.getpid(), parts).map(lambda images: loop(images, maps, *rest), pairwise(ends)))


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:  # noqa: ARG001 - threads do not outlive a fork
    return ThreadPoolExecutor(threads, "kernels")
