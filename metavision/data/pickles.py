"""Pickles of others, read without running what they say."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy._core import multiarray, numeric

from metavision.errors import InputError

_SETS = {"set": set, "frozenset": frozenset}
_ARRAYS = {
    ("multiarray", "_reconstruct"): multiarray._reconstruct,  # noqa: SLF001
    ("multiarray", "scalar"): multiarray.scalar,
    ("numeric", "_frombuffer"): numeric._frombuffer,  # type: ignore[attr-defined]  # noqa: SLF001
}


class _Unpickler(pickle.Unpickler):
    """Admits arrays, bytes, strings, lists, tuples, sets, dicts and numbers, and calls nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        package, _, last = module.rpartition(".")
        if package in ("numpy.core", "numpy._core") and (last, name) in _ARRAYS:
            return _ARRAYS[last, name]
        if module in ("builtins", "__builtin__") and name in _SETS:
            return _SETS[name]
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes for Python 2
            return _encode
        raise pickle.UnpicklingError(f"it holds {module}.{name}, which is neither array, text, number, list nor dict")


def _encode(text: str, codec: str) -> bytes:
    if codec not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it asks for the codec {codec}")
    return text.encode("latin1")


def load_pickle(place: Path | bytes, what: str = "") -> Any:
    """What a pickle holds; texts of Python 2 are read as Latin-1.

    Args:
        place: a file, or its content.
        what: its name for messages, where a content is given.

    Raises:
        InputError: it is damaged, or holds anything but arrays, bytes, texts, lists, dicts and numbers.
    """
    try:
        with io.BytesIO(place) if isinstance(place, bytes) else place.open("rb") as file:
            return _Unpickler(file, encoding="latin1").load()
    except Exception as error:  # a damaged pickle fails in any way
        raise InputError(f"{what or str(place)} can't be read as a pickle of arrays: {error}") from error
