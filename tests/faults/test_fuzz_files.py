"""Folders, archives and lists of all sorts become a data set of all that they hold, or one line: never a traceback,
never half of them, and nothing is written outside of the cache.
"""

import csv
import io
import os
import tarfile
import zipfile
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from metavision.classify.photos import listed
from metavision.data.pack import opened
from metavision.data.sources.folder import ImageFolder
from metavision.errors import InputError
from tests.faults.fuzzing import bounded, fuzzing

# What a name may be made of, beside plain letters: ways out, what systems leave behind, what looks alike.
PARTS = [
    "a",
    "b",
    "cat",
    "train",
    "val",
    "test",
    "..",
    ".",
    ".hidden",
    "__MACOSX",
    "Thumbs.db",
    "é",
    "e\u0301",
    "A",
    " ",
    "a b",
]
PARTS += [
    "con",
    "x" * 100,
    "a\nb",
    "a\\b",
    "..\\b",
    "<b>",
    "%s",
    "{}",
    "🐈",
    "\u202e",
    "a:b",
    "'",
    '"',
    "-",
    "~",
    "$HOME",
    "0",
]
ENDINGS = [".png", ".PNG", ".jpg", ".gif", ".txt", ".csv", ".zip", "", ".png.png", ".tif", ".npy"]
OUTSIDE = "outside"


def encoded(kind: str, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (6, 5, 3), dtype=np.uint8)).save(file, kind)
    return file.getvalue()


def bomb() -> bytes:
    """A PNG that says it has four thousand million pixels."""
    content = bytearray(encoded("PNG", 0))
    content[16:24] = (65000).to_bytes(4, "big") * 2
    return bytes(content)


WHOLE = [encoded(kind, seed) for seed in range(3) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")]
BROKEN = [b"", b"\0" * 300, b"GIF89a", bomb(), b"PK\5\6" + bytes(18), encoded("PNG", 9)[:60], encoded("JPEG", 9)[:200]]
BROKEN += [b"\x93NUMPY\1\0v\0", b"<svg/>", b"file,class\na.png,cat\n", encoded("TIFF", 9)[:50]]


@dataclass(frozen=True)
class Tree:
    """Files by path; a content that is None is a link that leads nowhere, or out."""

    files: dict[str, bytes | None]


def trees() -> st.SearchStrategy[Tree]:
    part = st.one_of(st.sampled_from(PARTS), st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=4))
    name = st.tuples(part, st.sampled_from(ENDINGS)).map("".join)
    path = st.lists(part, max_size=3).flatmap(lambda folders: name.map(lambda last: "/".join([*folders, last])))
    plain = st.tuples(
        st.sampled_from(["a", "b", "train/a", "val/b", "test/c"]), st.sampled_from(["0.png", "1.jpg", "2.gif"])
    )
    content = st.one_of(st.sampled_from(WHOLE), st.sampled_from(WHOLE), st.sampled_from(BROKEN), st.none())
    likely = st.dictionaries(plain.map("/".join), st.sampled_from(WHOLE), max_size=6)
    return st.tuples(likely, st.one_of(st.just({}), st.dictionaries(path, content, max_size=4))).map(
        lambda both: Tree({**both[0], **both[1]})
    )


def as_folder(tree: Tree, place: Path) -> Path:
    place.mkdir()
    for name, content in tree.files.items():
        path = place / name
        try:
            assume(Path(os.path.normpath(path)).is_relative_to(place))
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.symlink_to(place.parent / OUTSIDE if len(name) % 2 else path)
            else:
                path.write_bytes(content)
        except (OSError, UnicodeEncodeError):
            assume(False)
    return place


def as_zip(tree: Tree, place: Path) -> Path:
    path = place.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for number, (name, content) in enumerate(tree.files.items()):
            try:
                method = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)[number % 4]
                archive.writestr(
                    name, content or b"../outside/secret.png", method if number > 4 else zipfile.ZIP_DEFLATED
                )
            except (UnicodeEncodeError, ValueError):
                assume(False)
    return path


def as_tar(tree: Tree, place: Path) -> Path:
    path = place.with_suffix((".tar", ".tar.gz", ".tar.bz2", ".tar.xz")[len(tree.files) % 4])
    with tarfile.open(path, f"w:{path.suffix[1:].replace('tar', '')}") as archive:
        for number, (name, content) in enumerate(tree.files.items()):
            member = tarfile.TarInfo(name)
            if content is None:
                member.type = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)[number % 4]
                member.linkname = "../outside/secret.png"
            member.size = len(content or b"")
            try:
                archive.addfile(member, io.BytesIO(content or b""))
            except (UnicodeEncodeError, ValueError):
                assume(False)
    return path


def as_csv(tree: Tree, place: Path) -> Path:
    """A list of a folder's files, of which some lines are wrong."""
    folder = as_folder(tree, place)
    with (folder / "list.csv").open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "class"])
        for number, (name, content) in enumerate(tree.files.items()):
            kind = (len(content or b"") + number) % 7
            try:
                writer.writerow(
                    [[name, name.partition("/")[0]], [name, "b", "train"], [f"../{OUTSIDE}/secret.png", "a"], [name]][
                        max(0, kind - 3)
                    ]
                )
            except (UnicodeEncodeError, csv.Error):
                assume(False)
    return folder / "list.csv"


def damaged(path: Path, cut: int, flip: int) -> None:
    """Cuts a file, or turns a bit of it, or neither."""
    content = bytearray(path.read_bytes())
    if cut < 20:
        del content[cut * len(content) // 20 :]
    elif content and flip < 100:
        content[flip * len(content) // 100] ^= 1 << flip % 8
    path.write_bytes(content)


FORMS = {"folder": as_folder, "zip": as_zip, "tar": as_tar, "csv": as_csv}


def everything(folder: Path) -> dict[str, bytes | None]:
    """Whatever is below a folder."""
    return {
        str(path): path.read_bytes() if path.is_file() and not path.is_symlink() else None for path in folder.rglob("*")
    }


@pytest.mark.parametrize(
    "many", [8, pytest.param(int(os.environ.get("FUZZ", "500")), marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore")
def test_data_of_a_user(
    form: str, many: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended: Counter[str] = Counter()
    turn = iter(range(10**9))
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setenv("METAVISION_CACHE", str(cache))

    @fuzzing(many)
    @given(trees(), st.integers(0, 100), st.integers(0, 400), st.integers(0, 3))
    def one(tree: Tree, cut: int, flip: int, strict: int) -> None:
        home = tmp_path / f"{next(turn)}"
        (home / OUTSIDE).mkdir(parents=True)
        (home / OUTSIDE / "secret.png").write_bytes(WHOLE[0])
        place = FORMS[form](tree, home / "data")
        if place.is_file():
            damaged(place, cut, flip)
        before = everything(home)
        with bounded():
            try:
                data = ImageFolder(path=str(place), size=8, split="none", skip_corrupt=bool(strict))
                source = data.source("test")
                listing = data.listing()
            except InputError as error:
                ended["a line" if str(error).strip() else "nothing"] += 1
            else:
                ended["a data set"] += 1
                pack = opened(data.packed_in())
                left_out = pack.manifest["left_out"]
                assert len(source) == len(listing.names) - len(left_out) > 0
                assert strict or not left_out
                assert all(len(source.by_class[2]) for _ in source.classes) and source.read(slice(None)).shape[1] == 3
            with suppress(InputError):
                listed(place)
        assert everything(home) == before
        assert not list(cache.rglob("*.draft"))

    one()
    with capsys.disabled():
        print(f"\n{ended.total()} of {form}: {dict(ended)}")
    assert ended.total() >= many and not ended["nothing"]
