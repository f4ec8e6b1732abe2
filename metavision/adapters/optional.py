"""Packages that nothing of metavision needs, imported where they are installed."""

import importlib
import warnings
from typing import Any

from metavision.errors import InputError


def optional(name: str, install: str | None = None) -> Any:
    """A module of another project, quietly: what it warns of as it is imported is not ours to mend.

    Args:
        name: with its packages, as `easyfsl.methods`.
        install: what installs it, where pip does not by its name.

    Raises:
        InputError: it is not installed, or can't be imported.
    """
    package = name.partition(".")[0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"{package} is not installed ({error}); {install or f'pip install {package}'}") from error
