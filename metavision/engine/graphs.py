"""A computation recorded once and replayed: one launch in the place of thousands.

Recording needs a CUDA device, on which it was never run yet; what surrounds it is tested without one.
"""

import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from threading import Lock
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from metavision import trees
from metavision.errors import InputError

WARM_UP = 3  # runs before one is captured, as torch's documentation has it: libraries set themselves up in the first
KEPT = 4  # recordings, each of which holds the memory of all its values
RECORDING = Lock()  # held while waiting for a device is an error, in all threads, and by what may wait in another

# Runs a function, and returns what runs it again and the outputs that this overwrites.
Record = Callable[[Callable[[], Any]], tuple[Callable[[], None], Any]]


class _Recording(NamedTuple):
    function: Callable[[Any], Any]  # holds what `same` knows by its address
    inputs: list[Any]  # read by the replay where they are
    replay: Callable[[], None]
    outputs: Any


class Replayed:
    """Calls functions of tensors by replaying recordings, one for each function and shapes of what it is given.

    A replay reads its inputs where they were when it was recorded, and writes its outputs where they were then: inputs
    are copied to there and outputs from there. Random numbers are drawn anew in every replay, by the generators' state,
    which recording leaves as it was.

    Args:
        record: how; a test does it without a device.
    """

    def __init__(self, record: Record | None = None) -> None:
        self._record = captured if record is None else record
        self._recordings: OrderedDict[Hashable, _Recording] = OrderedDict()

    def __call__(self, function: Callable[[Any], Any], given: Any, name: Hashable) -> Any:
        """`function(given)`.

        Args:
            function: of `given` alone, without a wait for the device.
            given: any pytree of tensors.
            name: equal for functions that are the same.

        Raises:
            InputError: the function can't be recorded.
        """
        leaves, structure = pytree.tree_flatten(given)
        key = name, str(structure), tuple(_shape(leaf) for leaf in leaves)
        if key not in self._recordings:
            self._recordings[key] = self._recorded(function, leaves, structure)
            if len(self._recordings) > KEPT:
                self._recordings.popitem(last=False)
        self._recordings.move_to_end(key)
        recording = self._recordings[key]
        for place, leaf in zip(recording.inputs, leaves, strict=True):
            if isinstance(leaf, Tensor):
                place.copy_(leaf)
        recording.replay()
        return _cloned(recording.outputs)

    def _recorded(self, function: Callable[[Any], Any], leaves: list[Any], structure: pytree.TreeSpec) -> _Recording:
        inputs = _cloned(leaves)
        with torch.random.fork_rng(devices=trees.cuda(leaves)):
            replay, outputs = self._record(lambda: function(pytree.tree_unflatten(inputs, structure)))
        return _Recording(function, inputs, replay, outputs)


def captured(function: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
    """Records on the current CUDA device.

    Raises:
        InputError: the function waits for the device, or does something else that can't be captured.
    """
    aside, here = torch.cuda.Stream(), torch.cuda.current_stream()
    aside.wait_stream(here)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP - 1):
                function()
            # Refused before the capture, which where it fails leaves generators unfit for use.
            with RECORDING, no_waiting():
                function()
        here.wait_stream(aside)
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # others may read the next batch meanwhile
            outputs = function()
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError as error:
        why = str(error).partition("\n")[0]
        message = f"engine.mapping=graph: this can't be captured ({why}); engine.mapping=vmap does it"
        raise InputError(message) from error
    return graph.replay, outputs


@contextmanager
def no_waiting() -> Iterator[None]:
    """Operations that wait for the device raise RuntimeError."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the mode is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def same(value: Any) -> Hashable:
    """Equal for values whose computations are: dataclasses by their fields, numbers and words by themselves, all else
    by its address.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return type(value), *(same(getattr(value, field.name)) for field in fields(value))
    return value if isinstance(value, int | float | str | None) else id(value)


def _shape(leaf: Any) -> Hashable:
    return (leaf.shape, leaf.dtype, leaf.device) if isinstance(leaf, Tensor) else same(leaf)


def _cloned(tree: Any) -> Any:
    return pytree.tree_map(lambda leaf: leaf.detach().clone() if isinstance(leaf, Tensor) else leaf, tree)
