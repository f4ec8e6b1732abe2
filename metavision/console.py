"""What a person sees: bars and notes on stderr, results on stdout."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

# One console for bars, notes and tracebacks, so that they do not write over each other. `soft_wrap` by the caller
# where a line must stay a line.
stderr = Console(stderr=True, highlight=False)
stdout = Console(highlight=False)


def note(text: str) -> None:
    """A plain line on stderr."""
    stderr.print(text, markup=False, soft_wrap=True)


def hush() -> None:
    """From now on nothing is shown: for a process beside another that shows the same."""
    stderr.quiet = stdout.quiet = True


@contextmanager
def progress_bar(what: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """A bar that is advanced by calling it; off a terminal, one line at the start."""
    if not stderr.is_terminal:
        note(f"{what}: {total} {unit}")
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
    with Progress(*columns, TimeRemainingColumn(), console=stderr, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)
