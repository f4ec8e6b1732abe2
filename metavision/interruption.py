"""Signals that ask a process to end: it ends at once, or, where work wants to be put away first, at its next boundary.

SIGTERM is what schedulers send, SIGUSR1 what SLURM can be told to send ahead of it, SIGINT is Ctrl-C.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

REQUEUE, INTERRUPTED = 75, 130  # exit codes; the first is sysexits' EX_TEMPFAIL, "try again later"
TOGETHER = 2.0  # seconds within which signals are one: a scheduler and whoever started this process both send theirs
SIGNALS = [number for name in ("SIGINT", "SIGTERM", "SIGUSR1") if (number := getattr(signal, name, None)) is not None]


class Interrupted(KeyboardInterrupt):
    """A signal asked for the end. No `Exception`: what outlives faults, such as an image that can't be read, must not
    outlive this.

    Args:
        number: of the signal.
        agreed: all processes of the run end by it, at the same point.
    """

    def __init__(self, number: int, *, agreed: bool = False) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.exit_code = INTERRUPTED if number == signal.SIGINT else REQUEUE
        self.agreed = agreed


class _Ear:
    """What has been heard. A process has one, as it has one handler for each signal."""

    def __init__(self) -> None:
        self.patient = False
        self.heard: int | None = None
        self.since = 0.0

    def __call__(self, number: int, _: FrameType | None) -> None:
        again = self.heard is not None
        if again and time.monotonic() - self.since < TOGETHER:
            return
        self.heard, self.since = number, time.monotonic()
        if again or not self.patient:
            raise Interrupted(number)


_EAR = _Ear()


@contextmanager
def heard() -> Iterator[None]:
    """Within it the signals raise `Interrupted`, so that whatever is open is closed.

    A signal that another program has a use for, such as a launcher of SLURM jobs that requeues by itself, is left
    alone, and so are all outside of the main thread, where Python admits no handlers.
    """
    free = (signal.SIG_DFL, signal.default_int_handler)
    alone = threading.current_thread() is threading.main_thread()
    before = {number: handler for number in SIGNALS if alone and (handler := signal.getsignal(number)) in free}
    for number in before:
        signal.signal(number, _EAR)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if before:
            _EAR.heard = None


@contextmanager
def patient() -> Iterator[Callable[[], int]]:
    """Within it the first signal is kept until the end, and a second, later one ends at once; gives its number, or 0.

    Raises:
        Interrupted: at its end, if there was one.
    """
    _EAR.patient = True
    try:
        yield lambda: _EAR.heard or 0
    finally:
        _EAR.patient = False
    if _EAR.heard is not None:
        raise Interrupted(_EAR.heard)
