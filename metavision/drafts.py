"""Files that take their names only when they are whole, and on disk."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from metavision.errors import InputError


@contextmanager
def draft_of(path: Path, *, alone: bool = False) -> Iterator[Path]:
    """An empty file beside `path`, to be written to; it takes the place of `path` at the end, or vanishes on an error.

    Args:
        path: the file.
        alone: no other process writes it, so that drafts have one name, and what a killed process left is written over.

    Raises:
        InputError: nothing can be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.draft") if alone else _unique(path)
        try:
            yield draft
            draft.chmod(0o666 & ~_umask())  # safetensors and tempfile make them for their owner alone
            on_disk(draft)
            draft.replace(path)
            with suppress(OSError):  # of a file system that has no such thing
                on_disk(path.parent)
        finally:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
    except BrokenPipeError:  # of the standard output, not of a file
        raise
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror or error}") from error


def _unique(path: Path) -> Path:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    os.close(handle)
    return Path(name)


def on_disk(path: Path) -> None:
    """A name must not come before its content, were the machine to stop now."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def drafts_of(folder: Path) -> Iterator[Path]:
    """An empty folder, to be filled with files; they go to `folder` at the end, or vanish on an error.

    Raises:
        InputError: nothing can be written there.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as name:
            yield Path(name)
            folder.mkdir(exist_ok=True)
            for draft in Path(name).iterdir():
                draft.replace(folder / draft.name)
    except OSError as error:
        raise InputError(f"{folder} can't be written: {error.strerror or error}") from error


def reachable(path: Path) -> None:
    """Raises InputError where nothing could be written at `path`, before any work is done."""
    place = next(folder for folder in (path.absolute().parent, *path.absolute().parents) if folder.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise InputError(f"{path} can't be written: {place} is {'not writable' if place.is_dir() else 'no folder'}")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
