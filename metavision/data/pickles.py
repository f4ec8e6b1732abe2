"""Pickles of others, read without running what they say."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from metavision.errors import InputError

_SETS = {"set": set, "frozenset": frozenset}
_KINDS = "biufcSU"  # truth values, numbers and texts
_NDARRAY = object()  # what stands for numpy's class, which could make arrays of objects of any bytes


class _Type:
    """A type of numbers. numpy's own can be told by a pickle that it holds no objects, where it does."""

    def __init__(self, code: str, *_: object) -> None:
        self.dtype = np.dtype(code)
        if self.dtype.kind not in _KINDS:
            raise pickle.UnpicklingError(f"it holds an array of {self.dtype}, which are neither numbers nor texts")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = state[1]
        if order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(order)


class Array(np.ndarray):
    """An array of numbers or texts that was read from a pickle."""

    def __setstate__(self, state: Any) -> None:
        *version, shape, kind, fortran, content = state
        super().__setstate__((*version, shape, _plain(kind), fortran, content))


def _plain(kind: Any) -> np.dtype[Any]:
    if not isinstance(kind, _Type):
        raise pickle.UnpicklingError("it holds an array of no type")
    return kind.dtype


def _reconstruct(kind: object, *_: object) -> Array:
    if kind is not _NDARRAY:
        raise pickle.UnpicklingError("it holds a kind of array that is not numpy's own")
    return np.ndarray.__new__(Array, (0,), "b")


def _scalar(kind: Any, content: bytes) -> Any:
    return np.frombuffer(content, _plain(kind), 1)[0]


def _frombuffer(content: Any, kind: Any, shape: tuple[int, ...], order: Any) -> Any:
    return np.frombuffer(content, _plain(kind)).reshape(shape, order=order)


_ARRAYS = {
    ("multiarray", "_reconstruct"): _reconstruct,
    ("multiarray", "scalar"): _scalar,
    ("numeric", "_frombuffer"): _frombuffer,
}


class _Unpickler(pickle.Unpickler):
    """Admits arrays, bytes, strings, lists, tuples, sets, dicts and numbers, and calls nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "numpy" and name in ("ndarray", "dtype"):
            return _NDARRAY if name == "ndarray" else _Type
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
