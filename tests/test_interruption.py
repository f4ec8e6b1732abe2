"""Signals that ask for the end."""

import signal
import time
from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from metavision import interruption
from metavision.interruption import INTERRUPTED, REQUEUE, Interrupted


@pytest.fixture(autouse=True)
def nobody_elses() -> Iterator[None]:
    """Signals as a shell leaves them to a command in the foreground; in the background it has SIGINT ignored."""
    before = {number: signal.getsignal(number) for number in interruption.SIGNALS}
    for number in before:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def work(*signals: int, patient: bool, done: list[int]) -> None:
    """Raises signals one after another, and notes the last that was kept."""
    with interruption.heard(), interruption.patient() if patient else nullcontext(lambda: 0) as asked:
        try:
            for number in signals:
                signal.raise_signal(number)
            done.append(asked())
        finally:
            signal.raise_signal(signals[-1])  # a launcher's copy, which must not disturb what is being closed
            done.append(-1)


@pytest.mark.parametrize("number", interruption.SIGNALS)
def test_who_is_not_patient_ends_at_once_and_by_one_signal_alone(number: int) -> None:
    done: list[int] = []
    with pytest.raises(Interrupted) as caught:
        work(number, patient=False, done=done)
    assert done == [-1] and caught.value.exit_code == (INTERRUPTED if number == signal.SIGINT else REQUEUE)


def test_the_patient_keep_a_signal_and_its_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    with pytest.raises(Interrupted, match="SIGUSR1"):
        work(signal.SIGUSR1, signal.SIGTERM, patient=True, done=done)
    assert done == [signal.SIGUSR1, -1]
    clock = iter(range(0, 1000, 10))  # seconds
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    done.clear()
    with pytest.raises(Interrupted, match="SIGTERM"):
        work(signal.SIGUSR1, signal.SIGTERM, patient=True, done=done)
    assert not done  # not even what is being closed waits for a third


def test_nothing_is_left_of_it() -> None:
    before = {number: signal.getsignal(number) for number in interruption.SIGNALS}
    for _ in range(2):  # what was heard the first time is forgotten by the second
        with pytest.raises(Interrupted), interruption.heard():
            signal.raise_signal(signal.SIGTERM)
    assert {number: signal.getsignal(number) for number in interruption.SIGNALS} == before
