"""Libraries that only some sweeps need."""

from importlib.util import find_spec

from metavision.errors import not_installed


def needed(library: str, asked: str) -> None:
    """Raises InputError where a library is not installed."""
    if not find_spec(library):
        raise not_installed(asked, library)
