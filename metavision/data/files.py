"""Where a data set's files lie: a folder, a zip or a tar, listed and read alike; archives are never unpacked."""

import errno
import lzma
import os
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from metavision.errors import InputError

Content = bytes | Path  # what a decoder can open
LARGEST = 2**29  # bytes of a file in an archive; more is a mistake or an attack, and would fill the memory
# What Python's readers of archives raise on damaged ones, and on encrypted ones (RuntimeError): their own errors, those
# of the compressions, and, where a header says what can't be, those of whatever they do with it.
DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError),
    *(struct.error, ValueError, LookupError, ArithmeticError),
)


# Headers of a tar that speak of the next one, and are read into memory; and the most that they may say, in bytes.
SPOKEN = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE),
    tarfile.SOLARIS_XHDTYPE,
)
LONGEST = 2**20


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
    if place.is_file() and place.suffix != ".zip" and _is_tar(place):
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
            if _leads(entry, os.DirEntry.is_dir):
                yield from self._walk(folder / entry.name, f"{prefix}{entry.name}/", above | {me})
            elif _leads(entry, os.DirEntry.is_file):
                yield _readable(prefix + entry.name, self.place)


def _leads(entry: os.DirEntry[str], to: Callable[[os.DirEntry[str]], bool]) -> bool:
    """Whether an entry is, or links to, a folder or a file; a link to itself leads nowhere."""
    try:
        return to(entry)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise InputError(f"{entry.path} can't be read: {error.strerror}") from error


class Zip:
    """A zip archive."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def names(self) -> list[str]:
        with self._opened() as archive:
            names = [name for name in archive.namelist() if not name.endswith("/") and _visible(name)]
        return _once(names, self.place)

    def read(self, names: Sequence[str]) -> Iterator[tuple[int, Content]]:
        with self._opened() as archive:
            for i, name in enumerate(names):
                about = archive.getinfo(name)
                _bounded(name, about.file_size, self.place)
                # Of others some bytes may unpack to gigabytes, whatever is declared.
                if about.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    how = {zipfile.ZIP_BZIP2: "bzip2", zipfile.ZIP_LZMA: "lzma"}.get(about.compress_type, "others")
                    raise InputError(f"{name} in {self.place} is compressed by {how}; pack it anew by deflate")
                try:
                    yield i, archive.read(name)
                except DAMAGE as error:
                    raise InputError(f"{name} in {self.place} can't be read: {error}") from error

    def _opened(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.place)
        except DAMAGE as error:
            raise InputError(f"{self.place} is no whole zip archive: {error}; remove it to fetch it again") from error


class Tar:
    """A tar archive, compressed or not."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def names(self) -> list[str]:
        names = [_readable(member.name.removeprefix("./"), self.place) for _, member in self._walk()]
        return _once([name for name in names if _visible(name)], self.place)

    def read(self, names: Sequence[str]) -> Iterator[tuple[int, Content]]:
        """In the order of the archive, since going back in a compressed one means beginning again."""
        wanted = {name: i for i, name in enumerate(names)}
        for archive, member in self._walk():
            if (i := wanted.get(member.name.removeprefix("./"))) is not None:
                _bounded(member.name, member.size, self.place)
                try:
                    file = archive.extractfile(member)
                    assert file is not None  # a regular file
                    content = file.read()
                except (*DAMAGE, KeyError) as error:  # KeyError: a hard link to what is not there
                    raise InputError(f"{member.name} in {self.place} can't be read: {error}") from error
                yield i, content

    def _walk(self) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
        try:
            with tarfile.open(self.place, tarinfo=_Member) as archive:
                yield from ((archive, member) for member in archive if member.isfile() or member.islnk())
                while archive.fileobj and archive.fileobj.read(2**20):
                    pass  # at the end of a compressed file its checksum is compared
        except DAMAGE as error:
            raise InputError(f"{self.place} is no whole tar archive: {error}; remove it to fetch it again") from error


class _Member(tarfile.TarInfo):
    """A header in a tar; one that is damaged or cut off is an error, where tarfile takes it for the archive's end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Member":
        member = super().frombuf(buf, encoding, errors)
        if member.type in SPOKEN and member.size > LONGEST:
            raise tarfile.InvalidHeaderError(f"a name or note of {member.size} bytes")  # type: ignore[attr-defined]
        return member

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_Member":
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} at byte {archive.offset}") from error


def _is_tar(place: Path) -> bool:
    try:
        return tarfile.is_tarfile(place)
    except DAMAGE:
        return False


def _bounded(name: str, size: int, place: Path) -> None:
    if size > LARGEST:
        raise InputError(f"{name} in {place} unpacks to {size / 1e9:.3g} GB, which is too much for an image; remove it")


def hidden(part: str) -> bool:
    """Whether a name is one that systems leave behind."""
    return part.startswith(".") or part in ("__MACOSX", "Thumbs.db", "desktop.ini")


def _once(names: Sequence[str], place: Path) -> list[str]:
    """The names in order; an archive may hold two files of one name, of which only one could be meant."""
    if twice := sorted(name for name, n in Counter(names).items() if n > 1):
        raise InputError(f"{place} holds {twice[0]} more than once; unpack it, or pack it anew")
    return sorted(names)


def _readable(name: str, place: Path) -> str:
    """The name, if it can be written down again."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{name.encode(errors='surrogateescape')!r} in {place} is no name in UTF-8; rename it"
        ) from None
    return name


def _visible(name: str) -> bool:
    return not any(hidden(part) for part in name.removeprefix("./").split("/"))
