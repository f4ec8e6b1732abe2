"""Folders, zips and tars that are damaged, ambiguous or odd: read whole, or refused in one line."""

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from metavision.data.files import open_files
from metavision.errors import InputError

CONTENT = {f"cat/{i}.png": bytes([i]) * 5000 for i in range(4)}


def tar(path: Path) -> Path:
    with tarfile.open(path, f"w:{path.suffix[1:]}" if path.suffix != ".tar" else "w") as archive:
        for name, content in CONTENT.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def everything(path: Path) -> dict[str, bytes]:
    files = open_files(path)
    names = files.names()
    return {names[i]: content for i, content in files.read(names) if isinstance(content, bytes)}


@pytest.mark.parametrize("suffix", [".tar", ".gz", ".bz2", ".xz"])
def test_a_tar_with_a_damaged_byte_is_no_shorter_one(suffix: str, tmp_path: Path) -> None:
    path = tar(tmp_path / f"it{suffix}")
    assert everything(path) == CONTENT
    content = bytearray(path.read_bytes())
    place = 5632 + 20 if suffix == ".tar" else len(content) // 2  # the second header, or anywhere
    content[place] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"no whole .*tar archive"):
        everything(path)


def test_a_checksum_that_fails_at_the_end_is_noticed(tmp_path: Path) -> None:
    path = tar(tmp_path / "it.gz")
    content = bytearray(path.read_bytes())
    content[-8] ^= 0xFF  # of the checksum
    path.write_bytes(content)
    with pytest.raises(InputError, match="no whole tar archive"):
        open_files(path).names()


def test_hard_links_in_a_tar_are_files(tmp_path: Path) -> None:
    path = tar(tmp_path / "it.tar")
    with tarfile.open(path, "a") as archive:
        info = tarfile.TarInfo("dog/0.png")
        info.type, info.linkname = tarfile.LNKTYPE, "cat/2.png"
        archive.addfile(info)
    assert everything(path)["dog/0.png"] == CONTENT["cat/2.png"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_two_files_of_one_name_are_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"it.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("cat/0.png", b"a")
            with pytest.warns(UserWarning, match="Duplicate"):
                archive.writestr("cat/0.png", b"b")
    else:
        with tarfile.open(path, "w") as archive_:
            for content in (b"a", b"b"):
                info = tarfile.TarInfo("cat/0.png")
                info.size = 1
                archive_.addfile(info, io.BytesIO(content))
    with pytest.raises(InputError, match=r"holds cat/0\.png more than once"):
        open_files(path).names()


def test_a_damaged_member_of_a_zip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "it.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/0.png", os.urandom(4000))
    content = bytearray(path.read_bytes())
    content[60:80] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"cat/0.png in .* can't be read"):
        everything(path)


def test_a_link_to_itself_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "0.png").write_bytes(b"")
    (tmp_path / "cat" / "1.png").symlink_to("1.png")
    assert open_files(tmp_path).names() == ["cat/0.png"]


def test_a_name_that_cant_be_written_down_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    os.close(os.open(os.fsencode(tmp_path) + b"/cat/\xff.png", os.O_CREAT))
    with pytest.raises(InputError, match="is no name in UTF-8"):
        open_files(tmp_path).names()
