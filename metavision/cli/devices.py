"""A command on several devices: `engine.devices=N` starts it N times, by means of torchrun, and says how that ended."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

from metavision.errors import InputError, LeftBehind, Lost, Told
from metavision.interruption import INTERRUPTED, REQUEUE, SIGNALS, Interrupted

T = TypeVar("T")
CLOSING = (signal.SIGHUP, signal.SIGQUIT)  # which torch hands on, with thirty seconds until it kills


def launched() -> bool:
    """Whether torchrun, or a process here, has started this one beside others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and _ranks().launched()


def wanted(config: Mapping[str, Any]) -> bool:
    """Whether several processes are asked for that are not there yet."""
    return config["engine"]["devices"] > 1 and not launched()


def joined(device: str) -> AbstractContextManager[None]:
    """Joins the processes that were started together, see `metavision.engine.ranks`."""
    return _ranks().joined(device) if launched() else nullcontext()


def by_first(scope: AbstractContextManager[None]) -> AbstractContextManager[None]:
    """A scope that one process enters for all."""
    return scope if not launched() or _ranks().first() else nullcontext()


def from_first(make: Callable[[], T]) -> T:
    """What `make` gives in the first process."""
    return _ranks().from_first(make) if launched() else make()


def first_to_tell(error: Exception) -> bool:
    """Whether it falls to this process to say why the command fails."""
    if launched():
        return _ranks().first_to_tell(error)
    return not isinstance(error, Told)


def speaks() -> bool:
    """Whether it falls to this process to say that a signal ended it: not where whoever started it says so."""
    return not launched() or (_ranks().WATCHED not in os.environ and os.environ["RANK"] == "0")


def spread(verb: str, config: Mapping[str, Any]) -> None:
    """Runs this very job in `engine.devices` processes, to its end.

    Raises:
        InputError: there are not so many devices.
        Lost: a process was killed; the others were ended.
        Told: a process has failed, and said why.
        Interrupted: they were asked to end, and have.
    """
    import uuid
    from tempfile import TemporaryDirectory

    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    n = config["engine"]["devices"]
    threads = _threads(config["device"], n)
    with TemporaryDirectory(prefix="metavision-") as place, _surroundings(threads, place):
        received: list[int] = []
        launch = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=n,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=place),
            signals_to_handle=",".join(one.name for one in CLOSING),
        )
        try:
            _pass_on(place, n, received)
            elastic_launch(launch, sys.executable)("-m", "metavision.cli", *_words(verb))
        except ChildFailedError as error:
            raise _failure({rank: found.exitcode for rank, found in error.failures.items()}, n, received) from None
        except SignalException as error:
            ended = error.sigval
        else:
            if not received:
                return
            ended = signal.Signals(received[-1])  # too late for this job; there may be others
    if ended not in SIGNALS:
        signal.raise_signal(ended)  # as it would have ended a single process
    raise Interrupted(ended)


def _failure(codes: Mapping[int, int], n: int, received: Sequence[int]) -> BaseException:
    """What to raise of exit codes by process: one that was killed comes before what the others made of it.

    As soon as one process has failed, torch ends the others by SIGTERM, so what that makes of them counts least.
    """
    own = {rank: code for rank, code in codes.items() if code not in (-signal.SIGTERM, REQUEUE, LeftBehind.exit_code)}
    for rank, code in own.items():
        if code < 0:
            return Lost(f"process {rank + 1} of {n} was ended by {signal.Signals(-code).name}")
    if received and not own:
        return Interrupted(received[-1])
    if INTERRUPTED in own.values() or (REQUEUE in codes.values() and not own):
        return Interrupted(signal.SIGINT if own else signal.SIGTERM)  # which was sent to one of them
    if own:
        return Told(max(own.values()))
    return Lost("a process was ended by SIGTERM") if -signal.SIGTERM in codes.values() else Lost()


def _threads(device: str, n: int) -> int:
    """Of each process.

    Raises:
        InputError: there are fewer than n devices.
    """
    import torch

    from metavision.engine import device as devices
    from metavision.engine.threads import available

    place = devices.resolve(device)
    if place.type == "cuda" and n > (there := torch.cuda.device_count()):
        raise InputError(f"engine.devices is {n}, and {there} CUDA device{'s are' if there > 1 else ' is'} here")
    if place.type not in ("cuda", "cpu"):
        raise InputError(f"engine.devices is {n}, and device={place.type} can't be shared; cuda and cpu can")
    return max(1, available() // n)


def _words(verb: str) -> list[str]:
    """The command line of this job, of a sweep or not."""
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    own = [f"--config-dir={place.path}" for place in hydra.runtime.config_sources if place.provider == "command-line"]
    found = [word for word in hydra.overrides.hydra if word.startswith("hydra.searchpath=")]
    return [verb, *own, *found, *hydra.overrides.task]


@contextmanager
def _surroundings(threads: int, place: str) -> Iterator[None]:
    """Sets what the processes inherit, and puts back what their watching changes here."""
    environment, logged = dict(os.environ), logging.root.manager.disable
    on_main = threading.current_thread() is threading.main_thread()
    handlers = {one: signal.getsignal(one) for one in (*SIGNALS, *CLOSING)} if on_main else {}
    logging.disable(logging.CRITICAL)  # by torch, of what is said here in a line
    os.environ |= {"OMP_NUM_THREADS": str(threads), _ranks().WATCHED: place}
    try:
        yield
    finally:
        logging.disable(logged)
        os.environ.clear()
        os.environ.update(environment)
        for one, handler in handlers.items():
            signal.signal(one, handler)


def _pass_on(place: str, n: int, received: list[int]) -> None:
    """Has signals passed on to the n processes that leave their numbers in a folder, and noted as received.

    torch would kill them thirty seconds later, which a step or a validation may take.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException

    def pass_on(number: int, _: Any) -> None:
        there = [int(path.name) for path in Path(place).iterdir() if path.name.isdigit()]
        if len(there) < n:  # nothing is lost yet
            raise SignalException("ahead of the work", signal.Signals(number))
        received.append(number)
        for process in there:
            with suppress(ProcessLookupError):
                os.kill(process, number)

    if threading.current_thread() is threading.main_thread():
        for one in SIGNALS:
            signal.signal(one, pass_on)


def _ranks() -> Any:
    from metavision.engine import ranks  # needs torch, which one process may do without

    return ranks
