"""Files that take their names only when they are whole."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metavision.errors import InputError


@contextmanager
def draft_of(path: Path) -> Iterator[Path]:
    """An empty file beside `path`, to be written to; it takes the place of `path` at the end, or vanishes on an error.

    Raises:
        InputError: nothing can be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        os.close(handle)
        draft = Path(name)
        try:
            yield draft
            draft.chmod(0o666 & ~_umask())  # such files are made for their owner alone
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except BrokenPipeError:  # of the standard output, not of a file
        raise
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror or error}") from error


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
