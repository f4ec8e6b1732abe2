"""What a person sees: bars and notes on stderr, results on stdout."""

from rich.console import Console

# One console for bars, notes and tracebacks, so that they do not write over each other. `soft_wrap` by the caller
# where a line must stay a line.
stderr = Console(stderr=True, highlight=False)
stdout = Console(highlight=False)


def note(text: str) -> None:
    """A plain line on stderr."""
    stderr.print(text, markup=False, soft_wrap=True)
