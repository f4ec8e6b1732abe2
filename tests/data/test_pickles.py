"""Pickles of others: what is data is read, what would run is refused, and does not run."""

import os
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metavision.data.pickles import load_pickle
from metavision.errors import InputError

DATA = [
    {"a": [1, 2.5, None, True], "b": (b"bytes", "text é"), "c": {"nested": {"deep": [1]}}, 7: 2**80},
    np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    np.float32(1.5),
    np.array([b"a", b"bcd"]),
    {"names": {"a", "b"}, "numbers": frozenset({1, 2})},
    {"data": np.zeros((2, 2), np.int64), "labels": [np.int64(3), 4]},
]


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
@pytest.mark.parametrize("data", DATA, ids=range(len(DATA)))
def test_data_is_read(data: Any, protocol: int) -> None:
    found = load_pickle(pickle.dumps(data, protocol=protocol), "it")
    np.testing.assert_equal(found, data)


def test_texts_of_python_2_are_latin() -> None:
    assert load_pickle(b"\x80\x02}U\x04dataU\x03\xff\x00\x01s.", "it") == {"data": "\xff\x00\x01"}


class Runs:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.what = function, arguments

    def __reduce__(self) -> Any:
        return self.what


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "make",
    [
        lambda mark: Runs(os.system, f"touch {mark}"),
        lambda mark: Runs(eval, f"open({str(mark)!r}, 'w')"),
        lambda mark: Runs(exec, f"open({str(mark)!r}, 'w')"),
        lambda mark: Runs(Path.touch, mark),
        lambda mark: {"deep": [np.array([Runs(os.mkdir, str(mark))], dtype=object)]},
        lambda mark: partial(os.mkdir, str(mark)),
        lambda mark: Runs(np.load, str(mark)),
        lambda mark: Runs(np.fromfile, str(mark)),
        lambda mark: bytearray(b"no array"),
        lambda mark: Runs(__import__, "antigravity"),
    ],
)
def test_what_would_run_is_refused(make: Any, protocol: int, tmp_path: Path) -> None:
    content = pickle.dumps(make(tmp_path / "mark"), protocol=protocol)
    (tmp_path / "bad.pkl").write_bytes(content)
    with pytest.raises(InputError, match=r"bad.pkl can't be read as a pickle of arrays"):
        load_pickle(tmp_path / "bad.pkl")
    assert not (tmp_path / "mark").exists()


class Flagless:
    """A structure of an object that claims to hold none."""

    def __reduce__(self) -> Any:
        return np.dtype, ("V8", False, True), (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0)


@pytest.mark.parametrize(
    "data",
    [
        Runs(np.ndarray, (1,), "O", b"AAAAAAAA"),
        Runs(np.ndarray, (1,), "u1", b"A"),
        Runs(np.dtype, "O"),
        Runs(np.dtype, "i4,O"),
        np.array([1, "a"], dtype=object),
        np.zeros(2, [("a", "O")]),
        Runs(np._core.multiarray.scalar, Flagless(), b"AAAAAAAA"),
        Runs(np._core.numeric._frombuffer, b"AAAAAAAA", Flagless(), (1,), "C"),
        Runs(np._core.multiarray._reconstruct, np.matrix, (0,), b"b"),
    ],
    ids=range(9),
)
def test_bytes_never_become_objects(data: Any) -> None:
    """An array of objects over bytes of the file's choice is an array of pointers of its choice."""
    with pytest.raises(InputError, match="it can't be read as a pickle of arrays"):
        load_pickle(pickle.dumps(data, 4), "it")


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_numbers_are_those_that_pickle_reads(protocol: int) -> None:
    for data in (np.arange(3, dtype=">i4"), np.array(["a", "bé"]), np.float64(2.5), np.array(7, ">f8")):
        content = pickle.dumps(data, protocol)
        expected, found = pickle.loads(content), load_pickle(content, "it")
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_a_codec_that_unpacks_is_refused() -> None:
    import _codecs

    with pytest.raises(InputError, match="codec"):
        load_pickle(pickle.dumps(Runs(_codecs.encode, "a" * 100, "zlib_codec"), 2), "it")


@pytest.mark.parametrize("kept", [0, 1, 40, -1])
def test_a_cut_pickle_is_refused(kept: int) -> None:
    with pytest.raises(InputError, match="it can't be read"):
        load_pickle(pickle.dumps(np.arange(100))[:kept], "it")
