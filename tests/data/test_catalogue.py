"""Every loader on small data in the layouts that its set is found in; torchvision's loaders as oracles."""

import csv
import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision.datasets as peers
from PIL import Image
from scipy.io import savemat

from metavision.data.imageset import ImageSet, frozen
from metavision.data.sources.cifar100 import FC100, CifarFS, coarse
from metavision.data.sources.cub import Cub
from metavision.data.sources.miniimagenet import MiniImageNet, MiniImageNetVinyals
from metavision.data.sources.ten import CIFAR10, MNIST, FashionMNIST
from metavision.data.sources.tieredimagenet import TieredImageNet
from metavision.data.sources.unseen import DTD, Aircraft, Flowers, QuickDraw
from metavision.errors import InputError

Files = dict[str, bytes]


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache for each test, and no counts or checksums, which small data can't have."""
    monkeypatch.setenv("METAVISION_CACHE", str(tmp_path / "cache"))
    for data in (
        CifarFS,
        FC100,
        Cub,
        MiniImageNet,
        MiniImageNetVinyals,
        TieredImageNet,
        Aircraft,
        Flowers,
        DTD,
        QuickDraw,
    ):
        relax(monkeypatch, data)
    for ten in (CIFAR10, MNIST, FashionMNIST):
        relax(monkeypatch, ten)
        monkeypatch.setattr(ten, "expected", lambda self: (None, None))


def relax(monkeypatch: pytest.MonkeyPatch, data: type[ImageSet]) -> None:
    archives = tuple(archive._replace(md5=None) for archive in data.card.archives)
    monkeypatch.setattr(data, "card", replace(data.card, classes=None, images=None, archives=archives))


def every_set() -> list[type[ImageSet]]:
    """The sets of the catalogue that are found on a disk."""

    def below(kind: type[ImageSet]) -> list[type[ImageSet]]:
        return [kind, *(inner for sub in kind.__subclasses__() for inner in below(sub))]

    return [kind for kind in below(ImageSet) if "card" in kind.__dict__ and kind.folders]


def pixels(*key: int, size: int = 84) -> np.ndarray:
    return np.random.default_rng(key).integers(0, 256, (size, size, 3), dtype=np.uint8)


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def as_folder(files: Files, root: Path) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def as_zip(files: Files, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def as_tar(files: Files, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
        for name, content in reversed(files.items()):  # archives are in no order
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def images_of(data: ImageSet, split: str, name: str) -> np.ndarray:
    """(n, H, W, C) of a class."""
    source = data.source(split)
    return source.read(np.flatnonzero(source.labels == source.classes.index(name))).transpose(0, 2, 3, 1)


def all_classes(lists: Mapping[str, Iterable[str]]) -> list[tuple[str, str]]:
    return [(split, name) for split, names in lists.items() for name in names]


# ImageNet's children

RAVI = {"train": ["n01532829", "n01558993"], "val": ["n01855672"], "test": ["n01930112"]}


def frozen_as(monkeypatch: pytest.MonkeyPatch, lists: Mapping[str, list[str]]) -> None:
    for module in ("miniimagenet", "tieredimagenet"):
        monkeypatch.setattr(f"metavision.data.sources.{module}.frozen", lambda name: lists)


def ravi_files(pattern: str) -> Files:
    return {
        pattern.format(split=split, wnid=wnid, i=i): png(pixels(c, i))
        for c, (split, wnid) in enumerate(all_classes(RAVI))
        for i in range(3)
    }


MINI: dict[str, Callable[[Path], None]] = {
    "images": lambda root: as_folder(ravi_files("images/{wnid}{i:08d}.png"), root / "miniimagenet"),
    "class folders": lambda root: as_folder(ravi_files("{wnid}/{wnid}_{i}.png"), root / "mini-imagenet"),
    "split folders": lambda root: as_folder(ravi_files("{split}/{wnid}/{i}.png"), root / "mini_imagenet"),
    "zip": lambda root: as_zip(ravi_files("mini/images/{wnid}{i:08d}.png"), root / "mini-imagenet.zip"),
    "tar": lambda root: as_tar(ravi_files("./train/{wnid}/{i}.png"), root / "miniimagenet" / "miniImageNet.tar"),
}


@pytest.mark.parametrize("layout", MINI)
def test_mini_imagenet(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen_as(monkeypatch, RAVI)
    MINI[layout](tmp_path)
    data = MiniImageNet(root=str(tmp_path), download=False)
    for c, (split, wnid) in enumerate(all_classes(RAVI)):
        np.testing.assert_array_equal(images_of(data, split, wnid), [pixels(c, i) for i in range(3)])
    assert data.source("train").keys == ("imagenet:n01532829", "imagenet:n01558993")


def test_mini_imagenet_of_learn2learns_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen_as(monkeypatch, RAVI)
    c = 0
    for split, names in RAVI.items():
        images = np.stack([pixels(c + k, i) for k in range(len(names)) for i in range(3)])
        members = {name: list(range(3 * k, 3 * k + 3)) for k, name in enumerate(names)}
        part = "validation" if split == "val" else split
        content = pickle.dumps({"image_data": images, "class_dict": members})
        (tmp_path / f"mini-imagenet-cache-{part}.pkl").write_bytes(content)
        c += len(names)
    data = MiniImageNet(root=str(tmp_path), download=False)
    for number, (split, wnid) in enumerate(all_classes(RAVI)):
        np.testing.assert_array_equal(images_of(data, split, wnid), [pixels(number, i) for i in range(3)])


def test_mini_imagenet_of_vinyals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ImageNet's folders hold more images than the lists name."""
    frozen_as(monkeypatch, RAVI)
    home = tmp_path / "miniimagenet-vinyals"
    as_folder(ravi_files("ilsvrc/{wnid}/{wnid}_{i}.png"), home)
    for split, names in RAVI.items():
        with (home / f"{split}.csv").open("w", newline="") as file:
            rows = [[f"{name}_{i}.png", name] for name in names for i in (0, 2)]
            csv.writer(file).writerows([["filename", "class"], *rows])
    data = MiniImageNetVinyals(root=str(tmp_path))
    np.testing.assert_array_equal(images_of(data, "test", "n01930112"), [pixels(3, 0), pixels(3, 2)])
    (home / "ilsvrc" / "n01930112" / "n01930112_2.png").unlink()
    monkeypatch.setenv("METAVISION_CACHE", str(tmp_path / "other"))
    with pytest.raises(InputError, match=r"1 of the images listed in .* missing, such as n01930112_2.png"):
        MiniImageNetVinyals(root=str(tmp_path)).source("test")
    for damage in (b"filename,class\n\xff\xfe,cat\n", b"filename,class\n" + b"a" * 200_000 + b",cat\n"):
        (home / "test.csv").write_bytes(damage)
        with pytest.raises(InputError, match=r"test.csv can't be read as a CSV in UTF-8"):
            MiniImageNetVinyals(root=str(tmp_path)).source("test")


@pytest.mark.parametrize("layout", ["folders", "tar"])
def test_tiered_imagenet(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen_as(monkeypatch, RAVI)
    files = ravi_files("{split}/{wnid}/{i}.png")
    if layout == "folders":
        as_folder(files, tmp_path / "tiered-imagenet")
    else:
        as_tar(files, tmp_path / "tiered_imagenet.tar")
    data = TieredImageNet(root=str(tmp_path))
    np.testing.assert_array_equal(images_of(data, "val", "n01855672"), [pixels(2, i) for i in range(3)])
    assert data.group("n01530575") == "n01524359"  # of the published table


def test_tiered_imagenet_of_its_authors_pickles(tmp_path: Path) -> None:
    for s, split in enumerate(("train", "val", "test")):
        encoded = [np.frombuffer(png(pixels(s, i)), np.uint8)[:, None] for i in range(4)]
        (tmp_path / f"{split}_images_png.pkl").write_bytes(pickle.dumps(encoded))
        labels = {"label_specific": np.array([1, 0, 1, 0]), "label_general": np.zeros(4, int)}
        (tmp_path / f"{split}_labels.pkl").write_bytes(pickle.dumps(labels, protocol=2))
    data = TieredImageNet(root=str(tmp_path))
    np.testing.assert_array_equal(images_of(data, "val", "val/1"), [pixels(1, 0), pixels(1, 2)])
    assert data.source("test").classes == ("test/0", "test/1")


# CIFAR's children

FINE = sorted(coarse())


def cifar_batch(part: int, per_class: int) -> tuple[np.ndarray, list[int]]:
    labels = [c for c in range(100) for _ in range(per_class)][::-1]
    images = np.stack([pixels(part, i, size=32) for i in range(len(labels))])
    return images, labels


def cifar100_files() -> Files:
    files = {}
    for part, (name, per_class) in enumerate((("train", 2), ("test", 1))):
        images, labels = cifar_batch(part, per_class)
        rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        batch = {"data": rows, "fine_labels": labels, "coarse_labels": [0] * len(labels)}
        files[name] = pickle.dumps(batch, protocol=2)
    files["meta"] = pickle.dumps({"fine_label_names": FINE}, 2)
    return {f"cifar-100-python/{name}": content for name, content in files.items()}


CIFAR: dict[str, Callable[[Path], None]] = {
    "folder": lambda root: as_folder(cifar100_files(), root),
    "archive": lambda root: as_tar(cifar100_files(), root / "cifar100" / "cifar-100-python.tar.gz"),
    "archive in root": lambda root: as_tar(cifar100_files(), root / "cifar-100-python.tar.gz"),
}


@pytest.mark.parametrize("layout", CIFAR)
@pytest.mark.parametrize("data", [CifarFS, FC100])
def test_cifar_100_of_its_official_files(layout: str, data: type[ImageSet], tmp_path: Path) -> None:
    CIFAR[layout](tmp_path)
    made = data(root=str(tmp_path), download=False)
    (train, of_train), (test, of_test) = cifar_batch(0, 2), cifar_batch(1, 1)
    for split, names in frozen(made.name).items():
        for name in names[:3]:
            label = FINE.index(name)
            expected = [i for i, c in zip(train, of_train, strict=True) if c == label]
            expected += [i for i, c in zip(test, of_test, strict=True) if c == label]
            np.testing.assert_array_equal(images_of(made, split, name), expected)
    assert set(made.source("train").groups or ()) == {coarse()[name] for name in frozen(made.name)["train"]}


def test_cifar_100_equals_torchvisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_folder(cifar100_files(), tmp_path)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    peer = peers.CIFAR100(str(tmp_path), train=True)
    ours = images_of(CifarFS(root=str(tmp_path)), "train", "bottle")[:2]
    theirs = peer.data[np.array(peer.targets) == peer.class_to_idx["bottle"]]
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("place", ["cifar100/data", "cifarfs/cifar100/data", "cifarfs/processed/train", "cifar100.zip"])
def test_cifar_100_of_pngs(place: str, tmp_path: Path) -> None:
    files = {f"{name}/{i}.png": png(pixels(c, i, size=32)) for c, name in enumerate(FINE) for i in range(2)}
    if place.endswith(".zip"):
        as_zip({f"cifar100/data/{name}": content for name, content in files.items()}, tmp_path / "cifarfs" / place)
    else:
        as_folder(files, tmp_path / place)
    data = CifarFS(root=str(tmp_path), download=False)
    expected = [pixels(FINE.index("apple"), i, size=32) for i in range(2)]
    np.testing.assert_array_equal(images_of(data, "train", "apple"), expected)


@pytest.mark.parametrize(("data", "pattern"), [(CifarFS, "CIFAR_FS_{}.pickle"), (FC100, "FC100_{}.pickle")])
def test_cifar_100_of_metaoptnets_pickles(data: type[ImageSet], pattern: str, tmp_path: Path) -> None:
    for s, split in enumerate(("train", "val", "test")):
        content = {"data": np.stack([pixels(s, i, size=32) for i in range(4)]), "labels": [7, 3, 7, 3]}
        (tmp_path / pattern.format(split)).write_bytes(pickle.dumps(content, protocol=2))
    made = data(root=str(tmp_path), download=False)
    np.testing.assert_array_equal(images_of(made, "val", "val/7"), [pixels(1, 0, size=32), pixels(1, 2, size=32)])


def test_pickles_of_both_benchmarks_beside_each_other(tmp_path: Path) -> None:
    """Their classes are numbers in a split, so that neither's pack can serve the other."""
    for seed, pattern in enumerate(("CIFAR_FS_{}.pickle", "FC100_{}.pickle")):
        for s, split in enumerate(("train", "val", "test")):
            content = {"data": np.stack([pixels(seed, s, i, size=32) for i in range(4)]), "labels": [7, 3, 7, 3]}
            (tmp_path / pattern.format(split)).write_bytes(pickle.dumps(content, protocol=2))
    for seed, data in enumerate((CifarFS, FC100)):
        made = data(root=str(tmp_path), download=False)
        expected = [pixels(seed, 2, 0, size=32), pixels(seed, 2, 2, size=32)]
        np.testing.assert_array_equal(images_of(made, "test", "test/7"), expected)


@pytest.mark.parametrize("missing", ["fine_label_names", "fine_labels"])
def test_other_pickles_than_cifars_are_refused(missing: str, tmp_path: Path) -> None:
    files = cifar100_files()
    for name, content in files.items():
        files[name] = pickle.dumps({k: v for k, v in pickle.loads(content).items() if k != missing}, 2)
    as_folder(files, tmp_path)
    with pytest.raises(InputError, match="other pickles than CIFAR-100's"):
        CifarFS(root=str(tmp_path), download=False).source("test")


# Birds

BIRDS = sorted(sum(frozen("cub-feat").values(), []))


@pytest.mark.parametrize("layout", ["folder", "tgz"])
def test_birds(layout: str, tmp_path: Path) -> None:
    files = {
        f"CUB_200_2011/images/{name}/{i}.png": png(pixels(c, i, size=12))
        for c, name in enumerate(BIRDS)
        for i in (0, 1)
    }
    files["CUB_200_2011/images.txt"] = b"1 001.Black_footed_Albatross/0.jpg\n"
    if layout == "folder":
        as_folder(files, tmp_path)
    else:
        as_tar(files, tmp_path / "cub" / "CUB_200_2011.tgz")
    for split, sizes in (("closerlook", [100, 50, 50]), ("feat", [100, 50, 50]), ("easyfsl", [140, 30, 30])):
        data = Cub(root=str(tmp_path), size=12, split=split, download=False)  # type: ignore[arg-type]
        assert [len(data.source(part).classes) for part in ("train", "val", "test")] == sizes
    name = frozen("cub-easyfsl")["test"][3]
    expected = [pixels(BIRDS.index(name), i, size=12) for i in (0, 1)]
    np.testing.assert_array_equal(images_of(data, "test", name), expected)


# Ten classes


def idx_files(seed: int, train: int = 60) -> Files:
    rng, files = np.random.default_rng(seed), {}
    for prefix, n in (("train", train), ("t10k", 20)):
        files[f"{prefix}-images-idx3-ubyte"] = struct.pack(">4I", 0x803, n, 28, 28) + rng.bytes(n * 784)
        labels = bytes(i % 10 for i in range(n))
        files[f"{prefix}-labels-idx1-ubyte"] = struct.pack(">2I", 0x801, n) + labels
    return files


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(("data", "peer"), [(MNIST, peers.MNIST), (FashionMNIST, peers.FashionMNIST)])
def test_digits_and_clothes(data: type[Any], peer: type[Any], compressed: bool, tmp_path: Path) -> None:
    files = idx_files(3)
    raw = tmp_path / data.folders[0] / "raw"
    as_folder(files, raw)
    theirs = [peer(str(tmp_path), train=part) for part in (True, False)]
    if compressed:
        for name, content in files.items():
            (raw / name).unlink()
            (raw / f"{name}.gz").write_bytes(gzip.compress(content))
    name = data.names[4]
    made = data(root=str(tmp_path), download=False)
    expected = np.concatenate([p.data.numpy()[p.targets.numpy() == 4] for p in theirs])
    np.testing.assert_array_equal(images_of(made, "test", name)[..., 0], expected)
    with pytest.raises(InputError, match="has no split train; there is test"):
        made.source("train")


def test_the_same_classes_on_both_sides(tmp_path: Path) -> None:
    as_folder(idx_files(0), tmp_path / "MNIST" / "raw")
    data = MNIST(root=str(tmp_path), split="images")
    sources = [data.source(split) for split in ("train", "val", "test")]
    assert [len(source) for source in sources] == [50, 10, 20]
    assert all(source.shared and source.classes == tuple("0123456789") for source in sources)
    rows = np.concatenate([source.rows for source in sources if source.rows is not None])
    assert len(set(rows)) == 80


def test_a_cut_file_of_digits_is_named(tmp_path: Path) -> None:
    files = idx_files(0)
    files["t10k-images-idx3-ubyte"] = files["t10k-images-idx3-ubyte"][:-5]
    as_folder(files, tmp_path / "MNIST")
    with pytest.raises(InputError, match="t10k-images-idx3-ubyte is damaged"):
        MNIST(root=str(tmp_path)).source("test")


@pytest.mark.parametrize("layout", ["folder", "archive"])
def test_cifar_10(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    files = {"batches.meta": pickle.dumps({"label_names": names}, 2)}
    for b, batch in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        images = np.stack([pixels(b, i, size=32) for i in range(10)])
        rows = images.transpose(0, 3, 1, 2).reshape(10, -1)
        files[batch] = pickle.dumps({"data": rows, "labels": list(range(10))[::-1]}, 2)
    files = {f"cifar-10-batches-py/{name}": content for name, content in files.items()}
    as_folder(files, tmp_path / "peer")
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    peer = [peers.CIFAR10(str(tmp_path / "peer"), train=train) for train in (True, False)]
    if layout == "folder":
        as_folder(files, tmp_path)
    else:
        as_tar(files, tmp_path / "cifar10" / "cifar-10-python.tar.gz")
    data = CIFAR10(root=str(tmp_path), download=False)
    expected = np.concatenate([p.data[np.array(p.targets) == 3] for p in peer])
    np.testing.assert_array_equal(images_of(data, "test", "cat"), expected)


# Unseen domains


@pytest.mark.parametrize("layout", ["folder", "tar.gz"])
def test_aircraft(layout: str, tmp_path: Path) -> None:
    root = "fgvc-aircraft-2013b/data"
    variants = {"0000001": "A300B4", "0000002": "Boeing 737-200", "0000003": "A300B4", "0000004": "Boeing 737-200"}
    files = {f"{root}/images/{n}.jpg": png(pixels(int(n), size=84)) for n in variants}
    lists = {"trainval": ["0000001", "0000002"], "test": ["0000003", "0000004"]}
    for part, members in lists.items():
        text = "".join(f"{n} {variants[n]}\n" for n in members)
        files[f"{root}/images_variant_{part}.txt"] = text.encode()
    files[f"{root}/variants.txt"] = b"A300B4\nBoeing 737-200\n"
    as_folder(files, tmp_path / "peer")
    peer = peers.FGVCAircraft(str(tmp_path / "peer"), split="test")
    if layout == "folder":
        as_folder(files, tmp_path)
    else:
        as_tar(files, tmp_path / "aircraft" / "fgvc-aircraft-2013b.tar.gz")
    data = Aircraft(root=str(tmp_path), download=False)
    assert data.source("test").classes == tuple(peer.classes)
    ours = images_of(data, "test", "Boeing 737-200")
    np.testing.assert_array_equal(ours, [pixels(2, size=84), pixels(4, size=84)])
    np.testing.assert_array_equal(ours[1], np.asarray(peer[1][0]))


@pytest.mark.parametrize("layout", ["folder", "archive"])
def test_a_damaged_list_of_aircraft_is_named(layout: str, tmp_path: Path) -> None:
    root = "fgvc-aircraft-2013b/data"
    files = {f"{root}/images/0000001.jpg": png(pixels(1)), f"{root}/images_variant_test.txt": b"0000001 A3\xff\n"}
    if layout == "folder":
        as_folder(files, tmp_path)
    else:
        as_tar(files, tmp_path / "aircraft" / "fgvc-aircraft-2013b.tar.gz")
    with pytest.raises(InputError, match=r"images_variant_test.txt of .* can't be read as text: "):
        Aircraft(root=str(tmp_path), download=False).source("test")


@pytest.mark.parametrize("layout", ["folder", "tgz"])
def test_flowers(layout: str, tmp_path: Path) -> None:
    home = tmp_path / "flowers-102"
    labels = [1, 2, 2, 1]
    files = {f"jpg/image_{i + 1:05d}.jpg": png(pixels(i)) for i in range(4)}
    as_folder(files, home)
    savemat(home / "imagelabels.mat", {"labels": np.array([labels])})
    savemat(home / "setid.mat", {"trnid": np.array([[1, 2, 3, 4]]), "valid": np.array([[]]), "tstid": np.array([[]])})
    if layout == "tgz":
        for name in files:
            (home / name).unlink()
        (home / "jpg").rmdir()
        as_tar(files, home / "102flowers.tgz")
    data = Flowers(root=str(tmp_path), download=False)
    np.testing.assert_array_equal(images_of(data, "test", "002"), [pixels(1), pixels(2)])
    if layout == "folder":  # torchvision counts classes from 0
        peer = [label for _, label in _unchecked_flowers(tmp_path)]
        assert [label + 1 for label in peer] == labels


def _unchecked_flowers(root: Path) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torchvision.datasets.flowers102.check_integrity", lambda *_: True)
        return peers.Flowers102(str(root), split="train")


@pytest.mark.parametrize("layout", ["folder", "tar.gz"])
def test_textures(layout: str, tmp_path: Path) -> None:
    names = [f"dtd/images/{kind}/{kind}_{i:04d}.jpg" for kind in ("banded", "zig-zagged") for i in (2, 3)]
    files = {name: png(pixels(i)) for i, name in enumerate(names)}
    files["dtd/labels/test1.txt"] = "".join(f"{name.removeprefix('dtd/images/')}\n" for name in names).encode()
    as_folder(files, tmp_path / "peer" / "dtd")
    peer = peers.DTD(str(tmp_path / "peer"), split="test")
    if layout == "folder":
        as_folder(files, tmp_path / "dtd")
    else:
        as_tar(files, tmp_path / "dtd-r1.0.1.tar.gz")
    data = DTD(root=str(tmp_path), download=False)
    assert data.source("test").classes == tuple(peer.classes)
    ours = data.source("test").read(slice(None)).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(ours, [np.asarray(image) for image, _ in peer])


def test_drawings_of_things(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {name: rng.integers(0, 256, (7, 784), dtype=np.uint8) for name in ("cat", "The Eiffel Tower")}
    (tmp_path / "quickdraw").mkdir()
    for name, rows in arrays.items():
        np.save(tmp_path / "quickdraw" / f"full_numpy_bitmap_{name}.npy", rows)
    data = QuickDraw(root=str(tmp_path), per_class=5)
    ours = images_of(data, "test", "The Eiffel Tower")[..., 0]
    np.testing.assert_array_equal(ours.reshape(5, 784), arrays["The Eiffel Tower"][:5])
    (tmp_path / "quickdraw" / "dog.npy").write_bytes(b"no array")
    monkey = QuickDraw(root=str(tmp_path), per_class=4)
    with pytest.raises(InputError, match=r"dog.npy can't be read as drawings"):
        monkey.source("test")


# What all have in common


@pytest.mark.parametrize("data", every_set(), ids=lambda kind: kind.__name__)
def test_missing_data_says_what_to_place_where(data: type[ImageSet], tmp_path: Path) -> None:
    made = data(root=str(tmp_path), download=False)
    with pytest.raises(InputError) as error:
        made.listing()
    message = str(error.value)
    assert f"is not below {tmp_path}" in message and "METAVISION_DATA" in message
    assert made.card.place in message and str(tmp_path / data.folders[0]) in message
    assert made.card.licence and made.card.address


def test_a_wrong_count_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_folder(cifar100_files(), tmp_path)
    monkeypatch.setattr(CifarFS, "card", replace(CifarFS.card, classes=100, images=60000))
    with pytest.raises(
        InputError, match=r"has 300 images of 100 .* 100 of 3 images\); it should have 100 classes and 60000 images"
    ):
        CifarFS(root=str(tmp_path)).source("train")


def test_a_missing_class_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen_as(monkeypatch, RAVI)
    as_folder(
        {k: v for k, v in ravi_files("images/{wnid}{i:08d}.png").items() if "n01855672" not in k},
        tmp_path / "miniimagenet",
    )
    with pytest.raises(InputError, match="mini-ImageNet lacks class n01855672 of its split val"):
        MiniImageNet(root=str(tmp_path)).source("train")


def test_a_wrong_archive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_tar(cifar100_files(), tmp_path / "cifar-100-python.tar.gz")
    archives = tuple(archive._replace(md5="0" * 32) for archive in CifarFS.card.archives)
    monkeypatch.setattr(CifarFS, "card", replace(CifarFS.card, archives=archives))
    with pytest.raises(InputError, match=r"cifar-100-python.tar.gz is damaged or another file: its md5 is"):
        CifarFS(root=str(tmp_path)).source("train")


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_a_cut_archive_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"mini-imagenet{suffix}"
    (as_zip if suffix == ".zip" else as_tar)(ravi_files("images/{wnid}{i:08d}.png"), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=f"mini-imagenet{suffix} is no"):
        MiniImageNet(root=str(tmp_path), download=False).source("train")


def test_a_split_that_changed_since_packing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_folder(cifar100_files(), tmp_path)
    before = CifarFS(root=str(tmp_path)).source("test")
    assert json.loads((CifarFS(root=str(tmp_path)).packed_in() / "splits.json").read_text()) == {
        "cifarfs test": before.fingerprint
    }
    other = {**frozen("cifarfs"), "test": frozen("cifarfs")["test"][1:]}
    monkeypatch.setattr("metavision.data.sources.cifar100.frozen", lambda name: other)
    with pytest.raises(InputError, match="the split cifarfs test is not what it was"):
        CifarFS(root=str(tmp_path)).source("test")
