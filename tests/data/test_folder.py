"""A user's own images, in folders, archives and CSVs, and several sets as one."""

import csv
import shutil
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metavision.data.episodes import EpisodeSampler
from metavision.data.source import NoSplit
from metavision.data.sources.folder import ImageFolder
from metavision.data.sources.mixture import Mixture
from metavision.data.spec import EpisodeSpec
from metavision.errors import InputError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAVISION_CACHE", str(tmp_path / "cache"))


def image(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([seed, *path.name.encode()]).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "PNG")
    return path


def classes(root: Path, names: list[str], n: int = 3) -> Path:
    for c, name in enumerate(names):
        for i in range(n):
            image(root / name / f"{i}.png", seed=c)
    return root


def data(root: Path, **options: object) -> ImageFolder:
    return ImageFolder(path=str(root), size=9, **options)  # type: ignore[arg-type]


def splits(made: ImageFolder) -> dict[str, tuple[str, ...]]:
    found = {}
    for split in ("train", "val", "test"):
        try:
            found[split] = made.source(split).classes
        except NoSplit:
            continue
    return found


def test_split_folders(tmp_path: Path) -> None:
    root = classes(tmp_path / "pets", ["train/cat", "train/dog", "Validation/cow", "test/owl/snowy", "test/owl/barn"])
    assert splits(data(root)) == {"train": ("cat", "dog"), "val": ("cow",), "test": ("owl/barn", "owl/snowy")}
    assert splits(data(root, split="none"))["test"][0] == "Validation/cow"


def test_our_own_split_is_a_function_of_the_names(tmp_path: Path) -> None:
    names = [f"kind {i:02d}" for i in range(20)]
    found = splits(data(classes(tmp_path / "a", names, n=1)))
    assert [len(found[split]) for split in ("train", "val", "test")] == [12, 4, 4]
    assert set().union(*map(set, found.values())) == set(names)
    assert splits(data(classes(tmp_path / "elsewhere", names[::-1], n=2))) == found


def test_an_archive_of_a_folder(tmp_path: Path) -> None:
    root = classes(tmp_path / "birds", ["jay", "tit"])
    with zipfile.ZipFile(tmp_path / "birds.zip", "w") as archive:
        for path in root.rglob("*.png"):
            archive.write(path, path.relative_to(tmp_path))
    (tmp_path / "b").mkdir()
    zipped, plain = data(tmp_path / "birds.zip", split="none"), data(root, split="none")
    assert zipped.source("test").classes == ("jay", "tit")
    assert zipped.source("test").fingerprint == plain.source("test").fingerprint


@pytest.mark.parametrize("with_split", [False, True])
def test_a_csv(with_split: bool, tmp_path: Path) -> None:
    parts = ["train", "val", "test"]
    rows = [[f"files/{i}.png", f"kind {i % 3}", *([parts[i % 3]] if with_split else [])] for i in range(9)]
    for i in range(9):
        image(tmp_path / "files" / f"{i}.png")
    path = tmp_path / "list.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([["file", "class", "split"], *rows])
    if with_split:
        assert splits(data(path)) == {"train": ("kind 0",), "val": ("kind 1",), "test": ("kind 2",)}
    else:
        assert splits(data(path, split="none")) == {"test": ("kind 0", "kind 1", "kind 2")}
    path.write_text("file,class\nfiles/0.png,a\nfiles/nowhere.png,b\n")
    with pytest.raises(InputError, match=r"line 3 of .* names files/nowhere.png, which is not below"):
        data(path, split="none").source("test")


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    root = classes(tmp_path / "pets", ["cat", "dog"])
    (root / "cat" / "round").symlink_to(root, target_is_directory=True)
    (root / "dog" / "self").symlink_to(root / "dog", target_is_directory=True)
    (root / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    elsewhere = classes(tmp_path / "elsewhere", ["owl"])
    (root / "owl").symlink_to(elsewhere / "owl", target_is_directory=True)
    assert data(root, split="none").source("test").classes == ("cat", "dog", "owl")


def test_other_files_are_passed_over_and_counted(tmp_path: Path) -> None:
    root = classes(tmp_path / "pets", ["cat", "dog"])
    (root / "README.md").write_text("text")
    (root / "cat" / "labels.json").write_text("{}")
    (root / "cat" / ".DS_Store").write_text("hidden")
    (root / ".git").mkdir()
    pack = data(root, split="none").pack()
    assert pack.classes == ("cat", "dog") and pack.manifest["ignored_files"] == 2


def broken(root: Path, what: str) -> Path:
    classes(root, ["cat", "dog"])
    match what:
        case "empty class":
            (root / "owl").mkdir()
        case "class of texts":
            (root / "owl").mkdir()
            (root / "owl" / "notes.txt").write_text("")
        case "loose image":
            image(root / "stray.png")
        case "case":
            classes(root, ["Cat"])
        case "unicode":
            classes(root, [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")])
        case "two splits":
            (root / "train").mkdir()
            (root / "cat").rename(root / "train" / "cat")
            (root / "dog").rename(root / "train" / "dog")
            classes(root, ["test/cat"])
        case "two spellings":
            classes(root, ["train/owl", "val/Owl"])
            shutil.rmtree(root / "cat")
            shutil.rmtree(root / "dog")
        case "half split":
            classes(root, ["train/owl"])
        case "one split twice":
            classes(root, ["val/owl", "validation/owl"])
            shutil.rmtree(root / "cat")
            shutil.rmtree(root / "dog")
        case "hidden files":
            (root / "owl").mkdir()
            (root / "owl" / ".DS_Store").write_text("")
    return root


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("empty class", r"class owl of .* has no image"),
        ("class of texts", r"class owl of .* has no image"),
        ("loose image", r"stray.png lies in .* itself, not in a folder of its class"),
        ("case", r"has the classes '[Cc]at' and '[Cc]at', which is one name"),
        ("unicode", r"which is one name; merge or rename them"),
        ("two splits", r"class cat is in (train|test) and in (train|test); a class must be in one split alone"),
        ("two spellings", r"class (owl|Owl) is in (train|val) and in (train|val); a class must be in one split alone"),
        ("half split", r"class cat is in no split, as others are \(train\); sort all classes"),
        ("one split twice", r"val/owl and validation/owl are one class of one split; merge them"),
        ("hidden files", r"class owl of .* has no image"),
        ("few", r"2 classes are too few for train, val and test; 15 are needed"),
    ],
)
def test_what_is_wrong_is_named(what: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        data(broken(tmp_path / "pets", what)).source("train")


def test_no_images_and_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="which does not exist"):
        data(tmp_path / "nowhere").source("train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no images"):
        data(tmp_path / "empty").source("train")


def test_a_changed_folder_is_packed_anew(tmp_path: Path) -> None:
    root = classes(tmp_path / "pets", ["cat", "dog"])
    before = data(root, split="none").source("test")
    image(root / "dog" / "new.png")
    after = data(root, split="none").source("test")
    assert (len(before), len(after)) == (6, 7) and before.fingerprint != after.fingerprint


def test_a_changed_image_of_a_csv_is_packed_anew(tmp_path: Path) -> None:
    classes(tmp_path / "pets", ["cat", "dog"])
    listed = tmp_path / "pets" / "labels.csv"
    listed.write_text("file,class\ncat/0.png,cat\ndog/1.png,dog\n")
    before = data(listed, split="none").pack().manifest["fingerprint"]
    image(tmp_path / "pets" / "dog" / "1.png", seed=77)
    assert data(listed, split="none").pack().manifest["fingerprint"] != before


def test_a_line_of_a_csv_without_a_class_is_named(tmp_path: Path) -> None:
    classes(tmp_path / "pets", ["cat"])
    (tmp_path / "pets" / "labels.csv").write_text("file,class\ncat/0.png,cat\ncat/1.png, \n")
    with pytest.raises(InputError, match=r"line 3 of .* has no second column"):
        data(tmp_path / "pets" / "labels.csv").source("train")


def test_too_few_images_name_the_class(tmp_path: Path) -> None:
    root = classes(tmp_path / "pets", ["cat", "dog", "owl"])
    (root / "dog" / "2.png").unlink()
    source = data(root, split="none").source("test")
    with pytest.raises(InputError, match="need 3 images a class; class dog of pets test has 2"):
        EpisodeSampler(source, EpisodeSpec(3, 1, 2), seed=0)


def test_a_mixture(tmp_path: Path) -> None:
    one = data(classes(tmp_path / "pets", ["cat", "dog", "owl"]), split="none")
    other = data(classes(tmp_path / "cars", ["bus", "van"], n=4), split="none")
    mixture = Mixture(parts={"pets": one, "cars": other})
    source = mixture.source("test")
    assert source.classes == ("pets/cat", "pets/dog", "pets/owl", "cars/bus", "cars/van")
    whole = np.concatenate([part.source("test").read(slice(None)) for part in (one, other)])
    np.testing.assert_array_equal(source.read(np.arange(17)), whole)
    assert source.class_hashes == one.source("test").class_hashes + other.source("test").class_hashes
    draw = EpisodeSampler(source, EpisodeSpec(2, 1, 1), seed=0)[range(200)]
    from_pets = draw.classes < 3
    assert (from_pets.all(1) | ~from_pets.any(1)).all() and 60 < from_pets.all(1).sum() < 140


def test_what_a_mixture_refuses(tmp_path: Path) -> None:
    pets, root = classes(tmp_path / "pets", ["cat", "dog"]), str(tmp_path / "pets")
    with pytest.raises(InputError, match=r"images of one shape, but there are a 3x9x9, b 1x12x12; set size and color"):
        Mixture(parts={"a": data(pets), "b": ImageFolder(path=root, size=12, color="grey")})
    with pytest.raises(NoSplit, match="pets has no split train"):
        Mixture(parts={"a": data(pets, split="none")}).source("train")
    with pytest.raises(InputError, match="names no data set"):
        Mixture(parts={})
    missing = Mixture(parts={"a": data(pets, split="none"), "b": data(tmp_path / "nowhere", split="none")})
    with pytest.raises(InputError, match="does not exist"):  # and not: left out
        missing.source("test")
