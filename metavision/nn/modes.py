"""How a computation is carried out, for as long as a scope lasts, as `torch.autocast` does it: results are the same."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Modes:
    """What the engine asks of networks and inner loops.

    Args:
        explicit: blocks of convolution, normalisation, ReLU and pooling take their derivatives by formulas of their
            own, see `metavision.nn.block`; where these do not apply, autograd's are taken.
        recompute: inner steps are done again in the backward pass, so that memory does not grow with their number.
    """

    explicit: bool = False
    recompute: bool = False


_current: ContextVar[Modes] = ContextVar("modes", default=Modes())  # noqa: B039 - it is frozen


def modes() -> Modes:
    """Those of the scope."""
    return _current.get()


@contextmanager
def under(wanted: Modes) -> Iterator[None]:
    """Sets the modes for a scope."""
    token = _current.set(wanted)
    try:
        yield
    finally:
        _current.reset(token)
