"""Packs: what is decoded, all or nothing, whoever asks and however it ends."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from metavision import cores
from metavision.data.decode import Decoder
from metavision.data.listing import Listing, merged, of_arrays
from metavision.data.pack import Pack, in_parallel, packed
from metavision.data.source import Source, Stack
from metavision.data.sources.folder import ImageFolder
from metavision.data.verification import Finding, findings
from metavision.errors import InputError

N = 30


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METAVISION_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three classes of ten images of any size."""
    rng = np.random.default_rng(0)
    for i in range(N):
        path = tmp_path / "photos" / "abc"[i % 3] / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (10 + i, 40 - i, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


def photo_set(root: Path, **options: Any) -> ImageFolder:
    return ImageFolder(path=str(root), size=16, split="none", **options)


def listing(images: np.ndarray, names: list[str]) -> Listing:
    return of_arrays(images, names, origin="array")


def test_it_equals_decoding_one_by_one(photos: Path) -> None:
    pack = photo_set(photos).pack()
    assert len(pack.names) == N and pack.classes == ("a", "b", "c")
    for i, name in enumerate(pack.names):
        np.testing.assert_array_equal(pack.images[pack.rows[i]], Decoder(16)(photos / name))
        assert pack.classes[pack.labels[i]] == name[0]
    manifest = json.loads((pack.folder / "manifest.json").read_text())
    assert manifest["images"] == N and manifest["shape"] == [N, 3, 16, 16]
    assert manifest["version"]["resample"] == "bilinear" and manifest["fingerprint"]


def test_the_second_use_reads_no_image(photos: Path) -> None:
    first = photo_set(photos).pack()
    again = photo_set(photos)
    object.__setattr__(again, "listing", lambda: pytest.fail("listed again"))
    assert again.pack().folder == first.folder


def test_a_corrupt_image_is_named_or_left_out(photos: Path, cache: Path) -> None:
    for name in ("a/00.png", "b/04.png", "c/05.png", "c/08.png"):
        (photos / name).write_bytes((photos / name).read_bytes()[:60])
    with pytest.raises(InputError, match=r"4 images can't be read \(a/00.png: .*b/04.png: .*c/05.png: .*and 1 more\)"):
        photo_set(photos).pack()
    assert not [path for path in cache.iterdir() if path.suffix != ".lock"]
    pack = photo_set(photos, skip_corrupt=True).pack()
    assert len(pack.names) == len(pack.labels) == len(pack.digests) == N - 4
    assert set(pack.manifest["left_out"]) == {"a/00.png", "b/04.png", "c/05.png", "c/08.png"}
    for i, name in enumerate(pack.names):
        np.testing.assert_array_equal(pack.images[pack.rows[i]], Decoder(16)(photos / name))


def test_nothing_readable_is_an_error_also_when_the_corrupt_are_skipped(photos: Path, cache: Path) -> None:
    for path in photos.rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(InputError, match=f"none of the {N} images of .* can be read"):
        photo_set(photos, skip_corrupt=True).pack()
    assert not [path for path in cache.iterdir() if path.suffix != ".lock"]


PREPARE = """
import sys, time
from metavision.data import decode
from metavision.data.sources.folder import ImageFolder
slow = float(sys.argv[2])
plain = decode.Decoder.__call__
decode.Decoder.__call__ = lambda self, content: (time.sleep(slow), plain(self, content))[1]
pack = ImageFolder(path=sys.argv[1], size=16, split="none").pack()
print(pack.manifest["fingerprint"], pack.manifest["made"])
"""


def process(photos: Path, slow: float, before: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", before + PREPARE, str(photos), str(slow)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_killed_one_leaves_nothing_half_made(photos: Path, cache: Path) -> None:
    run = process(photos, slow=0.3)
    deadline = time.monotonic() + 60
    while not list(cache.glob("*.draft/images.npy")) and time.monotonic() < deadline:
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert not [path for path in cache.iterdir() if path.suffix not in (".lock", ".draft")]
    assert len(photo_set(photos).pack().names) == N
    assert not list(cache.glob("*.draft"))


def test_of_two_at_once_one_makes_it(photos: Path) -> None:
    runs = [process(photos, slow=0.05) for _ in range(2)]
    answers = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], answers
    assert answers[0][0] == answers[1][0]
    assert "another process is packing" in answers[0][1] + answers[1][1]


def test_no_room_is_an_error_that_leaves_nothing(photos: Path, cache: Path) -> None:
    """A limit on the size of files stands for a full disk: the system refuses the same call."""
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
    run = process(photos, slow=0, before=limit)
    _, said = run.communicate(timeout=120)
    assert run.returncode == 1
    assert f"InputError: there is no room in {cache} for folder-photos, which needs" in said
    assert not [path for path in cache.iterdir() if path.suffix != ".lock"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cant_be_written_is_named(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    monkeypatch.setenv("METAVISION_CACHE", str(tmp_path / "closed" / "cache"))
    with pytest.raises(InputError, match=r"can't be written .* set METAVISION_CACHE"):
        photo_set(photos).pack()


def test_a_cache_that_is_a_file_is_named(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("METAVISION_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"can't be written .* set METAVISION_CACHE"):
        photo_set(photos).pack()


def test_a_damaged_pack_is_named(photos: Path) -> None:
    folder = photo_set(photos).pack().folder
    (folder / "labels.npy").write_bytes(b"")
    with pytest.raises(InputError, match=r"is damaged .*remove that folder"):
        photo_set(photos).pack()


IMAGES = np.random.default_rng(1).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
NAMES = ["x", "y", "x", "z", "y", "x"]


def made(images: np.ndarray, names: list[str], key: str) -> Pack:
    return packed("set", {"key": key}, lambda: listing(images, names), Decoder(8))


def test_no_more_threads_than_a_container_grants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(cores, "quota", lambda: 2.0)
    working: set[int] = set()

    def work(task: int) -> int:
        working.add(threading.get_ident())
        time.sleep(0.01)
        return task

    assert sorted(in_parallel(work, iter(range(12)))) == list(range(12))
    assert len(working) <= 2


def test_the_fingerprint_is_of_pixels_and_classes() -> None:
    def of(images: np.ndarray, names: list[str], key: str) -> str:
        pack = made(images, names, key)
        source = Source("set", "all", pack.images, pack.labels, pack.classes, rows=pack.rows, digests=pack.digests)
        loaded = replace(source, images=source.read(slice(None)), rows=None, digests=None)
        assert loaded.fingerprint == source.fingerprint  # however the pixels are held
        return source.fingerprint

    before = of(IMAGES, NAMES, "0")
    assert of(IMAGES, NAMES, "another place") == before
    changed = IMAGES.copy()
    changed[3, 0, 0, 0] ^= 1
    assert of(changed, NAMES, "1") != before
    assert of(IMAGES, ["x", "y", "x", "z", "y", "y"], "2") != before
    assert of(IMAGES, ["x", "y", "x", "w", "y", "x"], "3") != before


def test_merged_listings_keep_images_with_their_classes() -> None:
    parts = [listing(IMAGES[:4], NAMES[:4]), listing(IMAGES[4:], NAMES[4:])]
    both = merged(parts)
    assert both.classes == ("x", "y", "z") and both.labels.tolist() == [0, 0, 0, 1, 1, 2]
    for row, image in both.read():
        where = int(np.flatnonzero((image == IMAGES).all((1, 2, 3)))[0])
        assert NAMES[where] == both.classes[both.labels[row]]


def test_a_stack_reads_as_one_array() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, 256, (n, 1, 2, 2), dtype=np.uint8) for n in (3, 1, 4)]
    stack, whole = Stack(parts), np.concatenate(parts)
    assert stack.shape == whole.shape
    for rows in (np.array([7, 0, 3, 3, 2]), slice(2, 6), np.arange(8)):
        np.testing.assert_array_equal(stack[rows], whole[rows])


def found(data: ImageFolder) -> Iterator[tuple[str, str, str]]:
    for finding in findings(data):
        assert isinstance(finding, Finding)
        yield finding.check, finding.state, finding.text


def test_verification_finds_damage_and_duplicates(photos: Path) -> None:
    for split, name in zip(("train", "val", "test"), "abc", strict=True):
        (photos / split).mkdir()
        (photos / name).rename(photos / split / name)
    (photos / "test" / "c" / "copy.png").write_bytes((photos / "train" / "a" / "00.png").read_bytes())
    (photos / "train" / "a" / "twice.png").write_bytes((photos / "train" / "a" / "03.png").read_bytes())
    (photos / "notes.txt").write_text("not an image")
    data = ImageFolder(path=str(photos), size=16)
    states = {check: (state, text) for check, state, text in found(data)}
    assert states["pixels"][0] == states["classes"][0] == states["same image in two classes"][0] == "ok"
    state, text = states["same image in two splits"]
    assert state == "note" and text.startswith("1 pair:") and "train/a/00.png" in text and "test/c/copy.png" in text
    state, text = states["same image twice in a class"]
    assert state == "note" and "twice.png" in text
    assert states["other files"] == ("note", "1 files that are no images were passed over")

    images = data.pack().folder / "images.npy"
    content = bytearray(images.read_bytes())
    content[-5] ^= 1
    images.write_bytes(content)
    states = {check: (state, text) for check, state, text in found(data)}
    assert states["pixels"][0] == "bad" and "1 images are not what was packed: " in states["pixels"][1]
