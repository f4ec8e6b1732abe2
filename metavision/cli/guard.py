"""Errors at the door: one line for what a user can mend, a traceback for a fault of the program."""

import errno
import sys
from collections.abc import Callable

from metavision import interruption
from metavision.cli import devices
from metavision.errors import MetavisionError, out_of_memory

# What a disk, a quota or a right refuses: a person can mend it, and a traceback would say no more.
REFUSALS = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EIO", "EMFILE", "ENFILE", "ESTALE")
    if hasattr(errno, name)
}


def guarded(work: Callable[[], int], heard: Callable[[str], None] = lambda _: None, advice: str = "") -> int:
    """Runs `work` and returns its exit code, or that of the error which ended it and whose line is also `heard`.

    Args:
        work: the job.
        heard: is told of errors.
        advice: what to say after an interruption.
    """
    try:
        with interruption.heard():
            return work()
    except MetavisionError as error:
        heard(_one_line(str(error)))
        return complain(str(error), error.exit_code) if devices.first_to_tell(error) else error.exit_code
    except BrokenPipeError:  # the reader of our output, such as `head`, has had enough
        sys.stderr.close()
        return 0
    except KeyboardInterrupt as error:
        code = getattr(error, "exit_code", interruption.INTERRUPTED)
        return complain(f"{str(error) or 'interrupted'}{advice}", code) if devices.speaks() else code
    except Exception as error:
        if refused := _refused(error):
            heard(refused)
            return complain(refused, 2)
        from metavision.console import stderr

        heard(_one_line(f"{type(error).__name__}: {error}"))
        stderr.quiet = not devices.first_to_tell(error)
        stderr.print_exception(suppress=_foreign())
        return 1


def _refused(error: Exception) -> str | None:
    """A line for what the machine would not give; None: it is no such error."""
    if isinstance(error, OSError) and error.errno in REFUSALS:
        what = error.filename or "a file"
        return f"{what} can't be used: {error.strerror}; with that mended, the same command goes on"
    if out_of_memory(error):
        return f"there is not enough memory ({error}); a smaller batch, episode, image or network takes less"
    return None


def complain(message: str, exit_code: int) -> int:
    """One line to stderr, whatever the message holds."""
    print(f"metavision: error: {_one_line(message)}", file=sys.stderr)
    return exit_code


def _one_line(message: str) -> str:
    return " ".join(message.split())


def _foreign() -> list[str]:
    """Packages whose frames a user does not want to see."""
    import importlib.util

    found = (importlib.util.find_spec(name) for name in ("hydra", "torch", "omegaconf"))
    return [spec.submodule_search_locations[0] for spec in found if spec and spec.submodule_search_locations]
