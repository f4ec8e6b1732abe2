"""A disk that refuses, and a process that dies, at the n-th thing that is done to a folder."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from metavision.engine import checkpoint

CHANGES = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
Strike = Callable[[], BaseException | None]  # called at each; what it gives is raised there


class Killed(BaseException):
    """What comes after it in the process has no effect on the disk, as after SIGKILL."""


class _Watch:
    """Python's audit hooks can't be removed, so there is one, which watches what it is told."""

    def __init__(self) -> None:
        self.folder, self.strike, self.installed = "", None, False

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        if self.strike is None or not (event == "open" or event in CHANGES):
            return
        path = args[0]
        if not isinstance(path, str | os.PathLike) or not os.fspath(path).startswith(self.folder):
            return
        if event == "open" and not _writes(args[1], args[2]):
            return
        self.struck()

    def struck(self) -> None:
        if self.strike is not None and (error := self.strike()) is not None:
            raise error


_WATCH = _Watch()


def _writes(mode: Any, flags: Any) -> bool:
    return bool(isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


@contextmanager
def struck(folder: Path, strike: Strike) -> Iterator[None]:
    """Within it `strike` is called ahead of all that changes the folder: files opened to be written, renamed, linked,
    removed, forced to the disk, and in the middle of a checkpoint's bytes.
    """
    if not _WATCH.installed:
        sys.addaudithook(_WATCH.hook)
        _WATCH.installed = True
    fsync, save_file = os.fsync, checkpoint.save_file

    def fsync_(handle: int) -> None:
        _WATCH.struck()
        fsync(handle)

    def save_file_(tensors: Any, path: Path, metadata: Any) -> None:
        save_file(tensors, path, metadata=metadata)
        try:
            _WATCH.struck()
        except OSError as error:
            os.truncate(path, path.stat().st_size // 2)
            raise SafetensorError(f"I/O error: {error.strerror} (os error {error.errno})") from error
        except Killed:
            whole, strike = path.read_bytes(), _WATCH.strike
            _WATCH.strike = None
            path.write_bytes(whole[: len(whole) // 2])
            _WATCH.strike = strike
            raise

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync_)
        patch.setattr(checkpoint, "save_file", save_file_)
        _WATCH.folder, _WATCH.strike = str(folder), strike
        try:
            yield
        finally:
            _WATCH.strike = None


class Refusals:
    """Refuses the n-th operation; and all that follow it, where it lasts.

    Args:
        n: from 0.
        make: the error.
        lasting: whether it does not pass.
    """

    def __init__(self, n: int, make: Callable[[], BaseException], *, lasting: bool) -> None:
        self.n, self.make, self.lasting = n, make, lasting
        self.seen = 0

    def __call__(self) -> BaseException | None:
        self.seen += 1
        hit = self.seen > self.n if self.lasting else self.seen == self.n + 1
        return self.make() if hit else None

    @property
    def fired(self) -> bool:
        return self.seen > self.n
