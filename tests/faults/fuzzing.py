"""What fuzzing has in common."""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import HealthCheck, Phase, settings

SECONDS = 60  # that an example may take, on a machine that does other things too
MEMORY = 16 * 2**30  # bytes of addresses: more is refused as on a smaller machine


def fuzzing(many: int) -> settings:
    """So many examples, other ones in every run but in one of few."""
    return settings(
        max_examples=many,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        derandomize=many < 100,
    )


class Hang(BaseException):
    """An example took too long."""


@contextmanager
def bounded() -> Iterator[None]:
    """In time and memory."""

    def late(*_: object) -> None:
        raise Hang

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, hard))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)
