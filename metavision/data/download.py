"""Archives from their official addresses, checked by checksum; without a network, a word on what to place where."""

import hashlib
import tempfile
import urllib.request
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError

from metavision.console import progress_bar
from metavision.errors import InputError

TIMEOUT = 30.0  # seconds without a byte
MEGABYTE = 10**6


class Archive(NamedTuple):
    """A file that a data set is published as."""

    name: str
    address: str
    md5: str | None  # None: none is published


def fetched(what: str, archive: Archive, folder: Path, *, advice: str, download: bool) -> Path:
    """The archive in a folder, verified; downloaded if it is not there.

    Args:
        what: the data set, for messages.
        archive: name, address and checksum.
        folder: where it lies, or will.
        advice: what else a person can do, for messages.
        download: whether it may be fetched.

    Raises:
        InputError: it is not there and can't be had, or its checksum is wrong.
    """
    path = folder / archive.name
    if path.is_file():
        verify(path, archive)
        return path
    missing = f"{what} is not below {folder.parent}"
    if not download:
        raise InputError(f"{missing}; {advice}")
    try:
        return _download(archive, folder)
    except OSError as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(error, HTTPError):
            error.close()
        raise InputError(f"{missing} and {archive.address} can't be fetched ({reason}); {advice}") from error


def _download(archive: Archive, folder: Path) -> Path:
    """Appears under its name only when it is whole and verified."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{archive.name}.") as drafts:
        draft = Path(drafts) / archive.name
        with urllib.request.urlopen(archive.address, timeout=TIMEOUT) as response, draft.open("wb") as file:  # noqa: S310 - https
            size = int(response.headers.get("Content-Length") or 0)
            with progress_bar(f"fetching {archive.name}", size // MEGABYTE, "MB") as advance:
                while piece := response.read(MEGABYTE):
                    file.write(piece)
                    advance(1)
        if size and draft.stat().st_size != size:
            raise OSError(f"it ended after {draft.stat().st_size} of {size} bytes")
        verify(draft, archive)
        return draft.rename(folder / archive.name)


def verify(path: Path, archive: Archive) -> None:
    """Raises InputError where a file's checksum is not that of the archive."""
    if archive.md5 is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != archive.md5:
        raise InputError(
            f"{path} is damaged or another file: its md5 is {found}, {archive.name} has {archive.md5}; "
            f"it has {path.stat().st_size} bytes; remove it and fetch it again from {archive.address}"
        )
