"""Decode once: a data set's pixels as one memory-mapped uint8 array in the cache folder."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from metavision.console import note, progress_bar
from metavision.cores import cores
from metavision.data.decode import Decoder
from metavision.data.files import Content
from metavision.data.listing import Listing
from metavision.errors import InputError

FORMAT = 2  # of the pack's files
DIGEST = 16  # bytes
BATCH = 64  # images that a thread takes at a time
BYTES = 2**26  # of files that a thread takes at a time, unless one alone has more
SOME = 16  # images whose hashes are compared whenever a pack is opened; `data verify` compares all
MANY = 100  # images that can't be read, after which it is not worth going on


@dataclass(frozen=True)
class Pack:
    """A whole data set, decoded, before it is split.

    Args:
        folder: where it lies.
        images: (M, C, H, W) uint8, a memory map.
        rows: (N,) int64: where in `images` each image is.
        labels: (N,) int64, an index into `classes`; in rising order.
        digests: (N, 16) uint8: a hash of the pixels of each.
        manifest: what it was made of and how.
    """

    folder: Path
    images: np.ndarray
    rows: np.ndarray
    labels: np.ndarray
    digests: np.ndarray
    manifest: Mapping[str, Any]

    @cached_property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.manifest["classes"])

    @cached_property
    def names(self) -> list[str]:
        """(N,): the file that each image was."""
        return (self.folder / "names.txt").read_text(encoding="utf-8").split("\n")

    @property
    def remembered(self) -> dict[str, str]:
        """Split, in words -> the fingerprint it had when it was used first.

        Raises:
            InputError: that is damaged.
        """
        try:
            return dict(json.loads((self.folder / "splits.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError) as error:
            raise damaged(self.folder, error) from error

    def remember(self, split: str, fingerprint: str) -> None:
        """Writes down the fingerprint of a split.

        Raises:
            InputError: it was another one before.
        """
        known = self.remembered
        if known.get(split, fingerprint) != fingerprint:
            raise InputError(
                f"the split {split} is not what it was when {self.folder} was packed: its fingerprint is "
                f"{fingerprint}, not {known[split]}; remove that folder to pack the data anew"
            )
        if split not in known:
            draft = self.folder / f"splits.{os.getpid()}.json"
            with suppress(OSError):  # a cache that can only be read is as good
                draft.write_text(json.dumps({**known, split: fingerprint}, indent=1), encoding="utf-8")
                draft.replace(self.folder / "splits.json")


def cache_folder() -> Path:
    """Where packed data sets are kept: `METAVISION_CACHE`, else the user's cache folder."""
    return Path(os.environ.get("METAVISION_CACHE") or platformdirs.user_cache_dir("metavision"))


def pack_folder(name: str, version: Mapping[str, Any]) -> Path:
    """Where the pack of a data set is, or would be."""
    text = json.dumps({"format": FORMAT, **version}, sort_keys=True)
    return cache_folder() / f"{name}-{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"


def packed(
    name: str,
    version: Mapping[str, Any],
    listing: Callable[[], Listing],
    decoder: Decoder,
    *,
    skip_corrupt: bool = False,
) -> Pack:
    """A data set as a pack: made on first use, opened after that.

    Args:
        name: of the data set.
        version: whatever else than the decoder the pixels depend on; another version is packed anew.
        listing: the images; called only where there is no pack.
        decoder: makes them all one shape.
        skip_corrupt: leave out images that can't be read, instead of giving up.

    A pack appears whole or not at all: it is written beside its place and renamed. Of two processes that ask at
    once, one makes it and the other waits.

    Raises:
        InputError: an image can't be read, or the cache folder can't be written, or is full.
    """
    version = {**version, **asdict(decoder), "skip_corrupt": skip_corrupt}
    folder = pack_folder(name, version)
    if not folder.is_dir():
        with _locked(folder.with_suffix(".lock"), name):
            if not folder.is_dir():
                _make(folder, listing(), decoder, {"name": name, "version": version}, skip_corrupt=skip_corrupt)
    return opened(folder)


def opened(folder: Path) -> Pack:
    """The pack in a folder.

    Raises:
        InputError: a part of it is missing or damaged, or some images are not those that were packed.
    """
    try:
        pack = Pack(
            folder,
            np.load(folder / "images.npy", mmap_mode="r"),
            np.load(folder / "rows.npy"),
            np.load(folder / "labels.npy"),
            np.load(folder / "digests.npy"),
            json.loads((folder / "manifest.json").read_text(encoding="utf-8")),
        )
        _check(pack)
    except (OSError, ValueError, EOFError, KeyError, TypeError, IndexError) as error:
        raise damaged(folder, error) from error
    return pack


def _check(pack: Pack) -> None:
    """Raises ValueError where parts are not of one length, or some images have changed."""
    if not len(pack.rows) == len(pack.labels) == len(pack.digests) == pack.manifest["images"]:
        raise ValueError("its parts are not of one length")
    for i in np.linspace(0, len(pack.rows) - 1, SOME).astype(np.int64):
        if digest(pack.images[pack.rows[i]]) != pack.digests[i].tobytes():
            raise ValueError(f"image {i} is another than was packed")


def damaged(folder: Path, why: Exception) -> InputError:
    """What to say of a pack that can't be used."""
    return InputError(f"the packed data in {folder} is damaged ({why}); remove that folder to pack the data anew")


def digest(pixels: np.ndarray) -> bytes:
    """The hash of an image's pixels."""
    return hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=DIGEST).digest()


def _make(folder: Path, listing: Listing, decoder: Decoder, about: dict[str, Any], *, skip_corrupt: bool) -> None:
    if not len(listing.labels):
        raise InputError(f"{about['name']} has no images")
    draft = folder.with_suffix(".draft")  # one name, so that what a killed process left is found and removed
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir()
        most = len(listing.labels) if skip_corrupt else MANY
        digests, faults = _decode(draft / "images.npy", listing, decoder, about["name"], most)
        if faults and not skip_corrupt:
            raise InputError(_unreadable(faults, listing))
        if len(faults) == len(listing.labels):
            raise InputError(f"none of the {len(faults)} images of {about['name']} can be read, such as {faults[0]}")
        _index(draft, listing, digests, faults, about | {"shape": [len(listing.labels), *decoder.shape]})
        draft.replace(folder)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise InputError(
                f"there is no room in {folder.parent} for {about['name']}, which needs "
                f"{len(listing.labels) * int(np.prod(decoder.shape)) / 1e9:.3g} GB ({error.strerror}); "
                "make room, or set METAVISION_CACHE to another folder"
            ) from error
        raise InputError(f"{error.filename or folder} can't be written: {error.strerror}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _unreadable(faults: Mapping[int, str], listing: Listing) -> str:
    some = "; ".join(f"{listing.names[row]}: {why}" for row, why in islice(sorted(faults.items()), 3))
    more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
    images = "1 image" if len(faults) == 1 else f"{len(faults)} images"
    return f"{images} can't be read ({some}{more}); mend or remove them, or set data.skip_corrupt=true to go without"


def _decode(path: Path, listing: Listing, decoder: Decoder, name: str, most: int) -> tuple[np.ndarray, dict[int, str]]:
    """Writes all images, in parallel; the digests (N, 16) and what can't be read, by row.

    Stops early where as many as `most` can't be read.

    Threads, since Pillow decodes and resizes outside of Python's lock, and the rows go to the file by plain writes at
    their offsets: a write to a full disk is an error, where a write to a memory map would kill the process.
    """
    digests = np.zeros((len(listing.labels), DIGEST), np.uint8)
    faults: dict[int, str] = {}
    with path.open("wb") as file:
        shape = (len(listing.labels), *decoder.shape)
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        file.flush()
        start, stride = file.tell(), int(np.prod(decoder.shape))
        if hasattr(os, "posix_fallocate"):  # fails at once where there is no room
            os.posix_fallocate(file.fileno(), 0, start + len(listing.labels) * stride)

        def work(batch: list[tuple[int, Content | np.ndarray]]) -> int:
            for row, content in batch:
                try:
                    pixels = decoder(content)
                except ValueError as error:
                    faults[row] = str(error)
                    continue
                digests[row] = np.frombuffer(digest(pixels), np.uint8)
                if os.pwrite(file.fileno(), pixels.data, start + row * stride) != stride:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return len(batch)

        with progress_bar(f"packing {name}", len(listing.labels), "images") as advance:
            for done in in_parallel(work, _batches(listing)):
                advance(done)
                if len(faults) >= most:
                    break
    return digests, faults


def _batches(listing: Listing) -> Iterator[list[tuple[int, Content | np.ndarray]]]:
    """A few images, and not many bytes: what an archive unpacks to must not fill the memory."""
    batch: list[tuple[int, Content | np.ndarray]] = []
    size = 0
    for row, content in listing.read():
        batch.append((row, content))
        size += _bytes(content)
        if len(batch) == BATCH or size >= BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _bytes(content: Content | np.ndarray) -> int:
    """That are held in memory."""
    if isinstance(content, np.ndarray):
        return content.nbytes
    return 0 if isinstance(content, Path) else len(content)


def in_parallel(work: Callable[[Any], int], tasks: Iterator[Any]) -> Iterator[int]:
    """Results as they come; only as many tasks are drawn ahead as keep all threads busy."""
    workers = cores()
    with ThreadPoolExecutor(workers) as pool:
        pending: set[Future[int]] = set()
        try:
            for task in tasks:
                pending.add(pool.submit(work, task))
                if len(pending) > 2 * workers:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            yield from (future.result() for future in pending)
        finally:
            pool.shutdown(cancel_futures=True)


def _index(
    draft: Path, listing: Listing, digests: np.ndarray, faults: Mapping[int, str], about: dict[str, Any]
) -> None:
    kept = np.setdiff1d(np.arange(len(listing.labels)), np.fromiter(faults, dtype=np.int64, count=len(faults)))
    np.save(draft / "rows.npy", kept)
    np.save(draft / "labels.npy", listing.labels[kept])
    np.save(draft / "digests.npy", digests[kept])
    names = [listing.names[row].replace("\n", " ") for row in kept]
    (draft / "names.txt").write_text("\n".join(names), encoding="utf-8")
    manifest = {
        **about,
        "format": FORMAT,
        "images": len(kept),
        "fingerprint": hashlib.sha256(digests[kept].tobytes() + listing.labels[kept].tobytes()).hexdigest()[:16],
        "left_out": {listing.names[row]: why for row, why in sorted(faults.items())},
        "ignored_files": listing.ignored,
        "made": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "classes": list(listing.classes),
    }
    (draft / "manifest.json").write_text(json.dumps(manifest, ensure_ascii=False, indent=1), encoding="utf-8")


@contextmanager
def _locked(path: Path, name: str) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("w")
    except OSError as error:
        raise InputError(
            f"the cache folder {path.parent} can't be written ({error.strerror}); set METAVISION_CACHE to one that can"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note(f"another process is packing {name}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
