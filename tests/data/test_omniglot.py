"""Omniglot: splits, layouts and damaged archives; the data itself where it is at hand."""

import hashlib
import io
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metavision.data.imageset import frozen
from metavision.data.sources import omniglot
from metavision.data.sources.omniglot import Omniglot
from metavision.errors import InputError

DATA = os.environ.get("METAVISION_DATA", "")
CHARACTERS = {
    "images_background": ["Greek/character01", "Greek/character02"],
    "images_evaluation": ["Tengwar/character01"],
}


def drawing(part: str, name: str, i: int) -> bytes:
    rng = np.random.default_rng([len(part), len(name), i])
    file = io.BytesIO()
    Image.fromarray(rng.random((105, 105)) > 0.1).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The official folders, with three characters."""
    monkeypatch.setenv("METAVISION_CACHE", str(tmp_path / "cache"))
    names = sum(CHARACTERS.values(), [])
    monkeypatch.setattr(Omniglot, "card", replace(Omniglot.card, classes=3, images=60))
    monkeypatch.setattr(omniglot, "frozen", lambda name: {"train": names[:1], "val": names[1:2], "test": names[2:]})
    for part, characters in CHARACTERS.items():
        for name in characters:
            (tmp_path / "omniglot-py" / part / name).mkdir(parents=True)
            for i in range(20):
                (tmp_path / "omniglot-py" / part / name / f"0001_{i + 1:02d}.png").write_bytes(drawing(part, name, i))
    return tmp_path


def zipped(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same as archives, whose checksums are then the official ones."""
    target = root / "zips"
    target.mkdir()
    archives = []
    for archive in Omniglot.card.archives:
        part = archive.name.removesuffix(".zip")
        with zipfile.ZipFile(target / archive.name, "w") as file:
            for path in sorted((root / "omniglot-py" / part).rglob("*.png")):
                file.write(path, path.relative_to(root / "omniglot-py"))
        md5 = hashlib.md5((target / archive.name).read_bytes()).hexdigest()
        archives.append(archive._replace(md5=md5))
    monkeypatch.setattr(Omniglot, "card", replace(Omniglot.card, archives=tuple(archives)))
    return target


def test_folders_and_archives_are_the_same_data(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = Omniglot(root=str(small), download=False).source("train")
    monkeypatch.setenv("METAVISION_CACHE", str(small / "other"))
    archives = Omniglot(root=str(zipped(small, monkeypatch)), download=False).source("train")
    assert folders.fingerprint == archives.fingerprint
    assert len(folders) == 4 * 20 and len(folders.classes) == 4
    np.testing.assert_array_equal(folders.read(slice(None)), archives.read(slice(None)))


def test_ink_is_bright_and_turns_are_classes(small: Path) -> None:
    source = Omniglot(root=str(small), download=False).source("test")
    paper = Image.open(small / "omniglot-py/images_evaluation/Tengwar/character01/0001_01.png").convert("L")
    upright = 255 - np.asarray(paper.resize((28, 28), Image.Resampling.BOX))
    for turn in range(4):
        np.testing.assert_array_equal(source.read(np.array([20 * turn]))[0, 0], np.rot90(upright, turn))
    assert source.classes[1] == "Tengwar/character01/rot090"


def test_a_truncated_archive_is_named(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = zipped(small, monkeypatch)
    archive = place / "images_background.zip"
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"images_background.zip is damaged or another file: its md5 is"):
        Omniglot(root=str(place), download=False).source("train")


def test_a_damaged_drawing_is_named(small: Path) -> None:
    (small / "omniglot-py/images_background/Greek/character02/0001_07.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"1 image can't be read \(Greek/character02/0001_07.png: .*skip_corrupt"):
        Omniglot(root=str(small), download=False).source("train")


def test_missing_data_says_what_to_place_where(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"place images_background.zip and .* \(from https://github.com.*METAVISION_DATA"
    ):
        Omniglot(root=str(tmp_path / "nowhere"), size=20, download=False).source("train")


def test_finns_split_is_disjoint_and_complete() -> None:
    everything = tuple(c for names in frozen("omniglot-vinyals").values() for c in names)
    split = omniglot.finn(everything)
    assert [len(split[part]) for part in ("train", "val", "test")] == [1200, 100, 323]
    assert set().union(*split.values()) == set(everything)


@pytest.mark.skipif(not (Path(DATA) / "omniglot-py").is_dir(), reason="METAVISION_DATA holds no Omniglot")
def test_the_real_data() -> None:
    sources = {split: Omniglot(root=DATA, download=False).source(split) for split in ("train", "val", "test")}
    assert [len(source.classes) for source in sources.values()] == [4112, 688, 1692]
    assert not set(sources["train"].class_hashes) & set(sources["test"].class_hashes)
