"""Where a data set's files lie: a folder, a zip or a tar, listed and read alike; archives are never unpacked."""

import os
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from metavision.errors import InputError

Content = bytes | Path  # what a decoder can open


class Files(Protocol):
    """A tree of files."""

    place: Path

    def names(self) -> list[str]:
        """Paths inside, with slashes, sorted; hidden files and the copies that macOS adds are left out."""
        ...

    def read(self, names: Sequence[str]) -> Iterator[tuple[int, Content]]:
        """(index into names, content) of each, in the order that is quickest to read."""
        ...


def open_files(place: Path) -> Files:
    """The files of a folder or an archive.

    Raises:
        InputError: it is neither, or damaged.
    """
    if place.is_dir():
        return Folder(place)
    if zipfile.is_zipfile(place):
        return Zip(place)
    if place.is_file() and place.suffix != ".zip" and tarfile.is_tarfile(place):
        return Tar(place)
    raise InputError(f"{place} is no folder, and no whole zip or tar archive; remove it, or put the whole one there")


class Folder:
    """A folder and all below it; links are followed, but never round in a circle."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def names(self) -> list[str]:
        return sorted(self._walk(self.place, "", frozenset()))

    def read(self, names: Sequence[str]) -> Iterator[tuple[int, Content]]:
        return ((i, self.place / name) for i, name in enumerate(names))

    def _walk(self, folder: Path, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
        try:
            about = folder.stat()
            entries = list(os.scandir(folder))
        except OSError as error:
            raise InputError(f"{folder} can't be read: {error.strerror}") from error
        if (me := (about.st_dev, about.st_ino)) in above:
            return  # a link to a folder that it lies in
        for entry in entries:
            if hidden(entry.name):
                continue
            if entry.is_dir():
                yield from self._walk(folder / entry.name, f"{prefix}{entry.name}/", above | {me})
            elif entry.is_file():
                yield prefix + entry.name


class Zip:
    """A zip archive."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def names(self) -> list[str]:
        with self._opened() as archive:
            return sorted(name for name in archive.namelist() if not name.endswith("/") and _visible(name))

    def read(self, names: Sequence[str]) -> Iterator[tuple[int, Content]]:
        with self._opened() as archive:
            for i, name in enumerate(names):
                try:
                    yield i, archive.read(name)
                except (zipfile.BadZipFile, OSError, RuntimeError, EOFError) as error:  # damaged, or encrypted
                    raise InputError(f"{name} in {self.place} can't be read: {error}") from error

    def _opened(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.place)
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            raise InputError(f"{self.place} is no whole zip archive: {error}; remove it to fetch it again") from error


class Tar:
    """A tar archive, compressed or not."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def names(self) -> list[str]:
        return sorted(member.name.removeprefix("./") for member in self._members() if _visible(member.name))

    def read(self, names: Sequence[str]) -> Iterator[tuple[int, Content]]:
        """In the order of the archive, since going back in a compressed one means beginning again."""
        wanted = {name: i for i, name in enumerate(names)}
        for archive, member in self._walk():
            if (i := wanted.get(member.name.removeprefix("./"))) is not None:
                file = archive.extractfile(member)
                assert file is not None  # a regular file
                yield i, file.read()

    def _members(self) -> list[tarfile.TarInfo]:
        return [member for _, member in self._walk()]

    def _walk(self) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
        try:
            with tarfile.open(self.place) as archive:
                yield from ((archive, member) for member in archive if member.isfile())
        except (tarfile.TarError, OSError, EOFError) as error:
            raise InputError(f"{self.place} is no whole tar archive: {error}; remove it to fetch it again") from error


def hidden(part: str) -> bool:
    """Whether a name is one that systems leave behind."""
    return part.startswith(".") or part in ("__MACOSX", "Thumbs.db", "desktop.ini")


def _visible(name: str) -> bool:
    return not any(hidden(part) for part in name.removeprefix("./").split("/"))
