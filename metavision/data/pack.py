"""Decode once: a data set's pixels as one memory-mapped uint8 array in the cache folder."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import platformdirs

from metavision.errors import InputError


class Packed(NamedTuple):
    """A whole data set before it is split."""

    images: np.ndarray  # (N, C, H, W) uint8
    labels: np.ndarray  # (N,) int64, an index into classes
    classes: tuple[str, ...]


def cache_folder() -> Path:
    """Where packed data sets are kept: `METAVISION_CACHE`, else the user's cache folder."""
    return Path(os.environ.get("METAVISION_CACHE") or platformdirs.user_cache_dir("metavision"))


def packed(name: str, version: str, make: Callable[[], Packed]) -> Packed:
    """The arrays that `make()` returns, made on first use and memory-mapped from the cache after that.

    Args:
        name: of the data set.
        version: whatever the arrays depend on (image size, renderer); another version is packed anew.
        make: decodes or draws the whole data set.

    A pack appears whole or not at all: it is written beside its place and renamed. Of two processes that ask at
    once, one makes it and the other waits.
    """
    folder = cache_folder() / f"{name}-{hashlib.blake2b(version.encode(), digest_size=6).hexdigest()}"
    with _locked(folder.with_suffix(".lock")):
        if not folder.exists():
            _write(folder, make(), {"name": name, "version": version})
    manifest = json.loads((folder / "manifest.json").read_text())
    images = np.load(folder / "images.npy", mmap_mode="c")
    return Packed(images, np.load(folder / "labels.npy"), tuple(manifest["classes"]))


def _write(folder: Path, data: Packed, about: dict[str, str]) -> None:
    draft = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        np.save(draft / "images.npy", np.ascontiguousarray(data.images))
        np.save(draft / "labels.npy", data.labels.astype(np.int64))
        (draft / "manifest.json").write_text(json.dumps({**about, "classes": list(data.classes)}, ensure_ascii=False))
        draft.replace(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("w")
    except OSError as error:
        raise InputError(
            f"the cache folder {path.parent} can't be written ({error.strerror}); set METAVISION_CACHE to one that can"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
