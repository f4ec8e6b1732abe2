"""Errors at the door: one line for what a user can mend, a traceback for a fault of the program."""

import sys
from collections.abc import Callable

from metavision.cli import devices
from metavision.cli.devices import INTERRUPTED
from metavision.errors import MetavisionError


def guarded(work: Callable[[], int], heard: Callable[[str], None] = lambda _: None, advice: str = "") -> int:
    """Runs `work` and returns its exit code, or that of the error which ended it and whose line is also `heard`.

    Args:
        work: the job.
        heard: is told of errors.
        advice: what to say after an interruption.
    """
    try:
        return work()
    except MetavisionError as error:
        heard(_one_line(str(error)))
        return complain(str(error), error.exit_code) if devices.first_to_tell(error) else error.exit_code
    except BrokenPipeError:  # the reader of our output, such as `head`, has had enough
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        if devices.launched():  # whoever started this process is interrupted, too
            return INTERRUPTED
        return complain(f"interrupted{advice}", INTERRUPTED)
    except Exception as error:
        from metavision.console import stderr

        heard(_one_line(f"{type(error).__name__}: {error}"))
        stderr.quiet = not devices.first_to_tell(error)
        stderr.print_exception(suppress=_foreign())
        return 1


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
