"""The processes of a run: each works on a share of it, and all know the same after that.

`torchrun`, or `engine.devices=N`, starts them; where there is one alone, nothing here does anything. Work is divided by
its numbers, which all know, so that nothing is sent but results: gradients, logs, scores. DistributedDataParallel is
not used, since it does not know the gradients within an inner loop.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from metavision import console
from metavision.errors import InputError, LeftBehind, first_line, out_of_memory
from metavision.interruption import Interrupted
from metavision.types import P

WATCHED = "METAVISION_WATCHED"  # in the environment: a process of ours has started this one and tells how it ended;
# a folder, in which each leaves its number, so that signals can be passed on
PR_SET_PDEATHSIG = 1  # of Linux's prctl
PATIENCE = timedelta(minutes=10)  # that a process waits for the others: more than a step or a measurement takes
T = TypeVar("T")


@contextmanager
def joined(device: str) -> Iterator[None]:
    """This process as one of those that `torchrun` has started, as far as its environment says so; once.

    All but the first are silent, unless they fail.

    Args:
        device: as configured: auto, cpu, cuda.

    Raises:
        InputError: there are more processes than CUDA devices, or they can't reach each other.
    """
    if not launched() or dist.is_initialized():
        yield
        return
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if watched := os.environ.get(WATCHED):
        _end_with_parent()
        Path(watched, str(os.getpid())).touch()
    if on_gpu:
        local, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if local >= there:
            raise InputError(f"process {local + 1} on this machine has no CUDA device; there are {there}")
        torch.cuda.set_device(local)
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:  # of all backends
        raise InputError(f"the processes of this run can't be joined: {first_line(error)}") from error
    if not first():
        console.hush()
    try:
        yield
    except Interrupted as error:
        if error.agreed:  # the first to end has the others ended, too, with whatever they have open
            barrier()
        raise
    # One that fails keeps its connections until it has said why, or the others would say first that it is gone.
    barrier()
    dist.destroy_process_group()


def launched() -> bool:
    """Whether this process is one of several, by its environment."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and {"RANK", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()


def count() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def number() -> int:
    """Of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def first() -> bool:
    """Whether it is this process that writes and speaks."""
    return number() == 0


def share(n: int) -> range:
    """Those of n pieces of work that fall to this process: neighbours, one more for the first processes."""
    each, more = divmod(n, count())
    start = number() * each + min(number(), more)
    return range(start, start + each + (number() < more))


def dealt(pieces: Sequence[T]) -> Sequence[T]:
    """Those that fall to this process, dealt out in turn."""
    return pieces[number() :: count()]


def collected(mine: Sequence[T]) -> list[T]:
    """What all processes made of the pieces that were dealt to them, in the order of the pieces."""
    parts = gathered(list(mine))
    most = max(len(part) for part in parts)
    return [part[turn] for turn in range(most) for part in parts if turn < len(part)]


def gathered(value: T) -> list[T]:
    """The values of all processes, in their order."""
    if count() == 1:
        return [value]
    found: list[Any] = [None] * count()
    with _together():
        dist.all_gather_object(found, value)
    return found


def from_first(make: Callable[[], T]) -> T:
    """What `make` gives in the first process, which alone calls it."""
    if count() == 1:
        return make()
    found: list[Any] = [make() if first() else None]
    with _together():
        dist.broadcast_object_list(found)
    return found[0]


def total(x: Tensor) -> Tensor:
    """The sum over processes of a contiguous tensor, in its place."""
    if count() > 1:
        with _together():
            dist.all_reduce(x)
    return x


def most(value: int) -> int:
    """The largest of the values of all processes, agreed upon without a word to the device."""
    if count() == 1:
        return value
    found = torch.tensor(value)
    with _together():
        dist.all_reduce(found, dist.ReduceOp.MAX)
    return int(found)


def average(tree: P, weight: float) -> P:
    """The mean over processes of trees of one shape and type; weights add up to 1. The same bits in all of them."""
    if count() == 1:
        return tree
    whole = total(torch.cat([(weight * tensor).flatten() for tensor in tree.values()]))
    parts = whole.split([tensor.numel() for tensor in tree.values()])
    return {name: part.view_as(tensor) for (name, tensor), part in zip(tree.items(), parts, strict=True)}


def average_logs(series: P, weight: float) -> P:
    """The mean of logs that processes without work do not have."""
    parts = [(w, found) for w, found in gathered((weight, series)) if w]
    return {name: torch.stack([w * found[name] for w, found in parts]).sum(0) for name in parts[0][1]}


def barrier() -> None:
    """Waits for all."""
    if count() > 1:
        with _together():
            dist.barrier()


def first_to_tell(error: Exception) -> bool:
    """Whether no other process has told yet why this run ends: the first to fail knows, the others are its victims."""
    if isinstance(error, LeftBehind) and WATCHED in os.environ:  # whoever watches knows who is lost
        return False
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    with suppress(RuntimeError, ValueError):  # nobody keeps the list
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = dist.TCPStore(address, port, is_master=False, timeout=timedelta(seconds=10))
        return store.add(f"metavision/told/{attempt}", 1) == 1
    return True


def _end_with_parent() -> None:
    """Has the system end this process when the one that started it is killed, as far as it can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def _together() -> Iterator[None]:
    """Of what needs all processes.

    Raises:
        LeftBehind: one has died, or does not come within `PATIENCE`.
    """
    try:
        yield
    except RuntimeError as error:  # of all backends
        if out_of_memory(error):
            raise
        raise LeftBehind from error
