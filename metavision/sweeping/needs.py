"""Libraries that only some sweeps need."""

from importlib.util import find_spec

from metavision.errors import InputError


def needed(library: str, asked: str) -> None:
    """Raises InputError where a library is not installed."""
    if not find_spec(library):
        raise InputError(f"{asked} needs {library}, which is not installed: pip install 'metavision[sweeps]'")
