"""From a folder to a classifier's file, by the command and in Python."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

import metavision
from metavision.classify import file
from metavision.cli.__main__ import main
from metavision.errors import InputError
from tests.classify.photos import folder, picture

NAMES = ["cat", "dog", "owl"]
PIXELS = ["backbone=pixels", "size=16"]


@pytest.fixture
def support(tmp_path: Path) -> Path:
    return folder(tmp_path / "pets", NAMES)


def adapted(support: Path, head: str = "prototypes") -> metavision.Classifier:
    return metavision.adapt(support, backbone="pixels", head=head, overrides=["size=16"])


def probabilities(classifier: metavision.Classifier) -> np.ndarray:
    images = np.stack([classifier.network.preparing.pixels(np.array(picture(k, 9))) for k in range(4)])
    return classifier.predict_proba(images)


def line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an error."""
    said = [one for one in capsys.readouterr().err.splitlines() if not one.startswith("reading ")]
    assert len(said) == 1 and said[0].startswith("metavision: error: "), said
    return said[0]


def test_the_command_says_what_there_is_to_know(support: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (support / "dog" / "bad.jpg").write_bytes(b"no image")
    Image.open(support / "cat" / "00.png").save(support / "cat" / "copy.png")
    assert main(["adapt", *PIXELS, f"support={support}"]) == 0
    said = capsys.readouterr().out
    assert "12 images of 3 classes; backbone pixels" in said
    assert "head: prototypes, since a class has 4 images" in said
    assert "95 % interval; 12 images held out" in said
    assert "cat/copy.png is a copy of cat/00.png" in said and "dog/bad.jpg can't be read" in said
    assert Path("pets.classifier").is_file()
    assert "next: metavision predict pets.classifier" in said


def test_a_file_answers_as_what_was_saved(protonet: Path, support: Path) -> None:
    made = metavision.adapt(support, run=protonet)
    assert made.head.name == "own"
    made.save("x.classifier")
    read = metavision.Classifier.load("x.classifier")
    np.testing.assert_array_equal(probabilities(made), probabilities(read))
    assert read.classes_.tolist() == NAMES and read.card == json.loads(json.dumps(made.card))


@pytest.mark.parametrize("head", ["auto", "prototypes", "ridge", "logistic"])
def test_it_tells_new_pictures_apart(support: Path, tmp_path: Path, head: str) -> None:
    made = adapted(support, head)
    new = folder(tmp_path / "new", NAMES, 5, start=20)
    files = sorted(new.rglob("*.png"))
    assert made.score(files, [path.parent.name for path in files]) > 0.8
    assert made.predict(files[:1]).tolist() == made.predict(made.pixels(files[:1])).tolist()
    np.testing.assert_allclose(made.predict_proba(files).sum(1), 1)
    as_floats = made.pixels(files).float() / 255
    np.testing.assert_allclose(made.predict_proba(as_floats), made.predict_proba(files), atol=1e-6)


def test_an_inner_loop_is_a_head_of_its_number_of_classes(maml: Path, support: Path, tmp_path: Path) -> None:
    made = metavision.adapt(support, run=maml)
    assert made.head.name == "own" and made.head.sees and made.card["estimate"]["how"] == "4 folds"
    made.save("x.classifier")
    read = metavision.Classifier.load("x.classifier")
    np.testing.assert_allclose(probabilities(read), probabilities(made), atol=1e-6)
    whole = made.predict_proba(made.pixels(sorted(support.rglob("*.png"))))
    alone = made.predict_proba(made.pixels([support / "cat" / "00.png"]))
    np.testing.assert_allclose(whole[:1], alone, atol=1e-5)
    four = folder(tmp_path / "four", [*NAMES, "yak"])
    assert metavision.adapt(four, run=maml).head.name == "prototypes"
    with pytest.raises(
        InputError, match=r"output for each of the 3 classes.*this support has 4; choose head=prototypes"
    ):
        metavision.adapt(four, run=maml, head="own")


@pytest.mark.parametrize("head", ["prototypes", "ridge", "logistic", "own"])
def test_classes_added_and_removed_are_as_from_the_beginning(
    head: str, protonet: Path, support: Path, tmp_path: Path
) -> None:
    four = folder(tmp_path / "four" / "pets", [*NAMES, "yak"])
    words = [f"run={protonet}", f"head={head}"]
    assert main(["adapt", *words, f"support={support}", "output=three.c"]) == 0
    assert main(["adapt", *words, f"support={four}", "output=four.c"]) == 0
    assert main(["adapt", "classifier=three.c", f"add={four / 'yak'}", "output=grown.c"]) == 0
    assert main(["adapt", "classifier=grown.c", "remove=yak"]) == 0
    found = {name: metavision.Classifier.load(f"{name}.c") for name in ("three", "four", "grown")}
    three, back = found["three"], found["grown"]
    np.testing.assert_allclose(probabilities(back), probabilities(three), atol=1e-6)
    assert main(["adapt", "classifier=three.c", f"add={four / 'yak'}", "output=grown.c"]) == 0
    grown = metavision.Classifier.load("grown.c")
    assert grown.classes_.tolist() == [*NAMES, "yak"]
    np.testing.assert_allclose(probabilities(grown), probabilities(found["four"]), atol=1e-6)
    assert grown.card["estimate"]["accuracy"] == pytest.approx(found["four"].card["estimate"]["accuracy"])


def test_one_image_a_class_has_no_estimate_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = folder(tmp_path / "one", NAMES, 1)
    assert main(["adapt", *PIXELS, f"support={one}"]) == 0
    assert "accuracy: not known, since every class has one image" in capsys.readouterr().out
    assert metavision.Classifier.load("one.classifier").card["estimate"] is None


def test_unequal_classes(tmp_path: Path) -> None:
    place = folder(tmp_path / "some", ["a", "b"], 9)
    folder(place, ["a", "b", "c"], 1)
    found = adapted(place, "ridge").card["estimate"]
    assert found["images"] == 18 and found["by_class"][2] is None


def test_kinds_of_images(tmp_path: Path) -> None:
    """Greyscale, turned by EXIF, animated, transparent, 16 bits: each is what a person sees of it."""
    place = folder(tmp_path / "kinds", NAMES, 2)
    upright = picture(0, 50)
    upright.convert("L").save(place / "cat" / "grey.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.rotate(90, expand=True).save(place / "cat" / "turned.png", exif=exif)
    upright.save(place / "cat" / "moving.gif", save_all=True, append_images=[picture(1, 0)])
    upright.save(place / "cat" / "upright.png")
    Image.fromarray(np.array(upright.convert("L")).astype(np.uint16) * 257).save(place / "cat" / "deep.png")
    made = adapted(place)
    rows = dict(zip(made.support.names, made.support.z, strict=True))
    assert made.card["skipped"] == {
        "cat/grey.png": "is a copy of cat/deep.png",
        "cat/upright.png": "is a copy of cat/turned.png",
    }
    assert float((rows["cat/moving.gif"] - rows["cat/turned.png"]).abs().mean()) < 0.1


STRANGE = ["two words", "naïve – 日本", 'comma, "quoted"', "up/down", "[brackets]"]


def test_strange_names_of_classes(tmp_path: Path) -> None:
    made = adapted(folder(tmp_path / "names", STRANGE))
    made.save("x.classifier")
    assert metavision.Classifier.load("x.classifier").classes_.tolist() == sorted(STRANGE)


def test_a_bomb_is_left_out(support: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (3000, 3000)).save(support / "cat" / "bomb.png")
    monkeypatch.setattr("metavision.data.decode.LARGEST", 1_000_000)
    assert "too many" in adapted(support).card["skipped"]["cat/bomb.png"]


def test_bad_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder(tmp_path / "one", ["cat"])
    (folder(tmp_path / "empty", NAMES) / "none").mkdir()
    (tmp_path / "nothing").mkdir()
    (folder(tmp_path / "bad", ["cat", "dog"]) / "eel").mkdir()
    (tmp_path / "bad" / "eel" / "x.png").write_bytes(b"x")
    folder(tmp_path / "loose", NAMES)
    picture(0, 0).save(tmp_path / "loose" / "here.png")
    cases = {
        "one": "has one class, cat; at least 2 are needed",
        "empty": "class none of",
        "nothing": "holds no images",
        "bad": "class eel of bad has no image that can be read: eel/x.png can't be read",
        "loose": "here.png lies in loose itself",
        "nowhere": "there is nothing at nowhere",
    }
    for name, message in cases.items():
        assert main(["adapt", *PIXELS, f"support={name}"]) == 2
        assert message in line(capsys)
    assert not list(tmp_path.glob("*.classifier*")) and not list(tmp_path.glob(".*"))


def test_bad_words(support: Path, protonet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adapt", *PIXELS, "support=pets", "output=good"]) == 0
    (tmp_path / "diary.txt").write_text("dear diary")
    capsys.readouterr()
    cases = {
        "support=pets": "neither of run= and backbone= given",
        f"support=pets backbone=pixels run={protonet}": "both of run= and backbone= given",
        "backbone=pixels": "support= is needed",
        "support=pets backbone=conv4": "backbone=conv4 comes without trained weights",
        "support=pets run=nowhere": "there is nothing at nowhere",
        "support=pets backbone=pixels head=rigde": "there is no head=rigde; did you mean ridge?",
        "support=pets backbone=pixels head=own": "head=own is that of a run's algorithm",
        "support=pets backbone=pixels output=diary.txt": "diary.txt is no classifier",
        "support=pets backbone=pixels output=pets": "output=pets is a folder",
        "support=pets backbone=pixels output=/dev/null/x": "can't be written",
        "support=pets backbone=pixels unknown=2": "unknown is 2.0; it must be a share",
        "support=pets backbone=pixels size=0": "images can be made 1 to 1024 pixels wide",
        "support=pets backbone=pixels add=pets": "add= is for a classifier that is there already",
        "support=pets backbone=pixles": "there is no backbone=pixles; did you mean pixels?",
        "-m support=pets backbone=pixels head=ridge,own": "metavision adapt makes one classifier",
        "classifier=good": "classifier= is to be changed by add=FOLDER or remove=NAME",
        "classifier=good remove=cta": "there is no class cta to remove; did you mean cat?",
        "classifier=good remove=[cat,dog]": "1 class would be left",
        "classifier=good add=pets": "there is a class cat already",
        "classifier=nowhere remove=cat": "there is no classifier nowhere",
        "classifier=diary.txt remove=cat": "diary.txt is no classifier",
        f"classifier={protonet / 'checkpoints/best.safetensors'} remove=cat": "but a checkpoint of a run",
    }
    before = sorted(tmp_path.rglob("*"))
    for words, message in cases.items():
        assert main(["adapt", *words.split()]) == 2, words
        assert message in line(capsys), words
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / "diary.txt").read_text() == "dear diary"


def test_a_file_that_was_tampered_with(support: Path) -> None:
    adapted(support).save("good")
    with safe_open("good", framework="pt") as opened:
        header = opened.metadata()
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    about = json.loads(header["card"])

    def refused(message: str, header: dict[str, str], tensors: dict[str, torch.Tensor]) -> None:
        save_file(tensors, "bad", metadata=header)
        with pytest.raises(InputError, match=message):
            metavision.Classifier.load("bad")

    refused("changed or damaged", header, {**tensors, "task": tensors["task"] + 1})
    refused("changed or damaged", {**header, "card": json.dumps({**about, "temperature": 9.0})}, tensors)
    newer = json.dumps({**json.loads(header[file.KEY]), "version": file.VERSION + 1})
    refused(
        f"of version {file.VERSION + 1}, and this program reads version {file.VERSION}",
        {**header, file.KEY: newer},
        tensors,
    )
    refused("no classifier", {}, tensors)
    config = about["network"]["config"]
    calls: dict[str, dict[str, object]] = {
        "would call os.system": {"backbone": {"_target_": "os.system", "command": "true"}},
        "would call metavision.cli.__main__.main": {
            "backbone": {**config["backbone"], "shape": {"_target_": "metavision.cli.__main__.main", "words": []}}
        },
        "would call metavision.backbones.weights.Path": {"algo": {"_target_": "metavision.backbones.weights.Path"}},
        "would call os.system, which is no engine's adapter": {"engine": {**config["engine"], "adapter": "os.system"}},
        "needs nowhere.Net, which is not of this program": {"backbone": {"_target_": "nowhere.Net"}},
        "needs metavision.backbones.Net, which can't be imported": {
            "backbone": {"_target_": "metavision.backbones.Net"}
        },
    }
    for message, nodes in calls.items():
        network = {**about["network"], "config": config | nodes}
        file.save(Path("bad"), {**about, "network": network}, tensors)
        with pytest.raises(InputError, match=message):
            metavision.Classifier.load("bad")
    for content in (b"", b"junk" * 100, Path("good").read_bytes()[:-100]):
        Path("bad").write_bytes(content)
        with pytest.raises(InputError, match="no classifier, or damaged"):
            metavision.Classifier.load("bad")


def test_a_file_has_nothing_imported_that_nobody_trusts(
    protonet: Path, support: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nets.py").write_text(
        "from pathlib import Path\nfrom typing import NamedTuple\nfrom metavision.backbones.conv4 import Conv4\n"
        "Path('imported').touch()\nclass Mine(Conv4): pass\nclass Pair(NamedTuple):\n    a: int\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    made = metavision.adapt(support, run=protonet, head="prototypes", device="cpu")
    made.save("good")
    about, tensors = file.read(Path("good"))
    config = about["network"]["config"]
    mine = {**config, "backbone": {**config["backbone"], "_target_": "nets.Mine"}}
    kind = {"kind": "nets.Pair", "items": {"a": {"value": 1}}}
    for name, changed in (
        ("nets.Mine", {"network": {**about["network"], "config": mine}}),
        ("nets.Pair", {"task": kind}),
    ):
        file.save(Path(name), {**about, **changed}, tensors)
        with pytest.raises(InputError, match=f"needs {name}, which is not of this program; METAVISION_TRUST=nets"):
            metavision.Classifier.load(name)
    assert not Path("imported").exists()
    monkeypatch.setenv("METAVISION_TRUST", "others,nets")
    again = metavision.Classifier.load("nets.Mine", "cpu")
    assert Path("imported").exists() and type(again.network.algorithm.backbone).__name__ == "Mine"
    np.testing.assert_array_equal(probabilities(again), probabilities(made))
    monkeypatch.delenv("METAVISION_TRUST")
    metavision.Classifier.load("nets.Mine", "cpu")  # which is imported by now


def test_images_of_another_size_are_refused(support: Path) -> None:
    with pytest.raises(InputError, match=r"of shape \(1, 3, 5, 5\); needed is \(n, 3, 16, 16\)"):
        adapted(support).predict(torch.zeros(1, 3, 5, 5))


def test_a_classifier_is_replaced_only_where_that_is_said(support: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["adapt", *PIXELS, f"support={support}"]
    assert main(words) == 0
    before = Path("pets.classifier").read_bytes()
    capsys.readouterr()
    assert main([*words, "head=ridge"]) == 2
    assert "pets.classifier is there already; output=pets.classifier makes it anew" in line(capsys)
    assert Path("pets.classifier").read_bytes() == before
    assert main([*words, "head=ridge", "output=pets.classifier"]) == 0
    assert metavision.Classifier.load("pets.classifier").head.name == "ridge"
