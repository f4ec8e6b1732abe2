"""Archives from their official addresses, checked by checksum; without a network, a word on what to place where."""

import hashlib
import shutil
import tempfile
import urllib.request
from pathlib import Path
from typing import NamedTuple

from metavision.errors import InputError

TIMEOUT = 30.0  # seconds without a byte


class Archive(NamedTuple):
    """A file that a data set is published as."""

    name: str
    address: str
    md5: str


def fetched(what: str, archive: Archive, folders: list[Path], *, unpacked: str, download: bool) -> Path:
    """The archive in one of `folders`, verified; downloaded into the first if it is in none.

    Args:
        what: the data set, for messages.
        archive: name, address and checksum.
        folders: where it may lie.
        unpacked: the folder that would do in its place, for messages.
        download: whether it may be fetched.

    Raises:
        InputError: it is not there and can't be had, or its checksum is wrong.
    """
    for folder in folders:
        if (path := folder / archive.name).is_file():
            _verify(path, archive)
            return path
    wanted = (
        f"place {archive.name} (from {archive.address}) or the folder {unpacked}/ in {folders[0]}, "
        "or set data.root or METAVISION_DATA"
    )
    if not download:
        raise InputError(f"{what} is not below {folders[0]}; {wanted}")
    try:
        return _download(archive, folders[0])
    except OSError as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(f"{what} is not below {folders[0]} and can't be fetched ({reason}); {wanted}") from error


def _download(archive: Archive, folder: Path) -> Path:
    """Appears under its name only when it is whole and verified."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{archive.name}.") as drafts:
        draft = Path(drafts) / archive.name
        with urllib.request.urlopen(archive.address, timeout=TIMEOUT) as response, draft.open("wb") as file:  # noqa: S310 - https
            shutil.copyfileobj(response, file)
        _verify(draft, archive)
        return draft.rename(folder / archive.name)


def _verify(path: Path, archive: Archive) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != archive.md5:
        raise InputError(
            f"{path} is damaged or another file: its md5 is {found}, {archive.name} has {archive.md5}; "
            f"it has {path.stat().st_size} bytes; remove it and fetch it again from {archive.address}"
        )
