"""What is said of processes that were started together and have ended."""

import signal

import pytest

from metavision.cli.devices import _failure
from metavision.errors import LeftBehind, Lost, Told
from metavision.interruption import INTERRUPTED, REQUEUE, Interrupted

CLOSED = -signal.SIGTERM  # as torch ends the others
LEFT = LeftBehind.exit_code


@pytest.mark.parametrize(
    ("codes", "kind", "exit_code"),
    [
        ((2, CLOSED), Told, 2),
        ((REQUEUE, 1), Told, 1),  # one failed, and the other was closed while it got ready
        ((LEFT, 1), Told, 1),
        ((REQUEUE, -signal.SIGKILL), Lost, 1),
        ((LEFT, -signal.SIGSEGV), Lost, 1),
        ((LEFT, LEFT), Lost, 1),
        ((CLOSED, LEFT), Lost, 1),
        ((REQUEUE, REQUEUE), Interrupted, REQUEUE),
        ((REQUEUE, CLOSED), Interrupted, REQUEUE),
        ((INTERRUPTED, REQUEUE), Interrupted, INTERRUPTED),
    ],
)
def test_what_a_process_did_itself_counts_before_what_closing_made_of_it(
    codes: tuple[int, ...], kind: type[BaseException], exit_code: int
) -> None:
    received = [signal.SIGINT] if INTERRUPTED in codes else []
    error = _failure(dict(enumerate(codes)), len(codes), received)
    assert type(error) is kind and getattr(error, "exit_code", None) == exit_code
    if -signal.SIGKILL in codes:
        assert str(error).startswith("process 2 of 2 was ended by SIGKILL")


def test_a_signal_that_one_process_got_alone_is_told_by_its_code() -> None:
    error = _failure({0: INTERRUPTED, 1: CLOSED}, 2, [])
    assert isinstance(error, Interrupted) and error.exit_code == INTERRUPTED
