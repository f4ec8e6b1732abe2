"""Errors that a user can mend: they end a command with one line and an exit code, not with a traceback."""

from collections.abc import Iterable
from difflib import get_close_matches

MANY, SHOWN = 60, 8  # options, of which no more are shown


class MetavisionError(Exception):
    """Base of the errors shown as one line."""

    exit_code = 1


class InputError(MetavisionError, ValueError):
    """What was asked for can't be done; the message says what was found, what was needed, and what exists."""

    exit_code = 2


class Diverged(MetavisionError):
    """Training met a loss that is not finite."""


class Lost(MetavisionError):
    """A process of a run that has several is gone."""

    def __init__(self, what: str = "another process of this run has ended, or does not answer") -> None:
        super().__init__(f"{what}; the same command goes on from the last checkpoint, with any number of processes")


class LeftBehind(Lost):
    """The others are gone, and this process does not know why; whoever watches them tells so by its exit code."""

    exit_code = 4


class Told(MetavisionError):
    """A failure of which another process has told already."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"a process ended with exit code {exit_code}, and said why")
        self.exit_code = exit_code


def out_of_memory(error: BaseException) -> bool:
    """Whether the host or the device had no memory left; known by name, so that torch need not be here."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))
    )


def first_line(error: BaseException) -> str:
    """What an error says, or what it is."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def not_installed(asked: str, *packages: str) -> InputError:
    """`explain needs captum, which is not installed: pip install captum`."""
    are = "is" if len(packages) == 1 else "are"
    return InputError(
        f"{asked} needs {', '.join(packages)}, which {are} not installed: pip install {' '.join(packages)}"
    )


def no_option(where: str, key: object, known: Iterable[str]) -> str:
    """`algo has no option stepz; did you mean steps? …`"""
    return f"{where} has no option {key}{suggestion(str(key), known)}"


def suggestion(word: str, known: Iterable[str]) -> str:
    """`; did you mean maml? there are fomaml, maml, protonet`, to be put behind a message; of many, the likest."""
    known = sorted(known)
    if not known:
        return "; there is none"
    close = get_close_matches(word, known, n=1, cutoff=0.6)
    meant = f"; did you mean {close[0]}?" if close else ";"
    if len(known) > MANY:
        known = [*get_close_matches(word, known, n=SHOWN, cutoff=0), f"{len(known) - SHOWN} others"]
    return f"{meant} there {'is' if len(known) == 1 else 'are'} {', '.join(known)}"
