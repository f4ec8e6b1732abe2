"""What answers rest on: sums that add up, influence as by starting again, and what is shown of it."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import metavision
from metavision.classify.classifier import Classifier
from metavision.classify.explaining import evidence
from metavision.classify.explaining.explanation import explanations
from metavision.classify.explaining.overlay import overlay
from metavision.classify.explaining.saliency import SMALL, saliency
from metavision.classify.heads import KINDS
from metavision.classify.heads.base import balanced
from metavision.classify.whole import Whole
from metavision.cli.__main__ import main
from tests.classify.photos import folder, picture
from tests.classify.test_heads import K
from tests.classify.test_heads import support as features

NAMES = ["cat", "dog", "owl"]


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    place = folder(tmp_path / "pets", NAMES, 3)
    return folder(place, NAMES[:2], 4)  # unequal classes


def made(place: Path, head: str, request: pytest.FixtureRequest) -> Classifier:
    """Of pixels, or by a run's own algorithm."""
    if head in KINDS:
        return metavision.adapt(place, backbone="pixels", head=head, overrides=["size=16"])
    return metavision.adapt(place, run=request.getfixturevalue(head), head="own")


def asked(classifier: Classifier) -> Tensor:
    prepared = [classifier.network.preparing.pixels(np.array(picture(k, 9))) for k in range(4)]
    return torch.from_numpy(np.stack(prepared))


def centred_logs(classifier: Classifier, images: Tensor) -> np.ndarray:
    """What the logits must be, from nothing but probabilities."""
    logs = np.log(classifier.predict_proba(images))
    return logs - logs.mean(1, keepdims=True)


@pytest.mark.parametrize("name", KINDS)
def test_weights_are_sums_over_the_support(name: str) -> None:
    x, y = features()
    head = KINDS[name]().suited(x)
    task = head.fit(x, y, K)
    share = head.representers(task, x, y, K)
    weight, bias = head.affine(task)
    torch.testing.assert_close(share.sum(0), torch.zeros(K, dtype=torch.float64), atol=1e-5, rtol=0)
    both = evidence.centred(head.scaled(x).T @ share), evidence.centred(weight)
    torch.testing.assert_close(*both, atol=1e-5, rtol=1e-5)
    other = features(seed=3)[0]
    logits = evidence.centred(head.scaled(other) @ weight + bias)
    torch.testing.assert_close(logits, evidence.centred(head.logits(task, other)))


def test_the_weights_of_ridge_are_those_of_its_dual() -> None:
    """(K + p / w) a = Y - 1 / k, with K of features from their weighted mean."""
    x, y = features()
    head = KINDS["ridge"](penalty=0.3).suited(x)
    w = balanced(y, K)
    points = head.scaled(x) - (w[:, None] * head.scaled(x)).mean(0)
    target = (y[:, None] == torch.arange(K)).double() - 1 / K
    dual = torch.linalg.solve(points @ points.T + 0.3 * torch.diag(1 / w), target)
    torch.testing.assert_close(head.representers(head.fit(x, y, K), x, y, K), head.scale * dual)


@pytest.mark.parametrize("head", [*KINDS, "protonet"])
def test_contributions_add_up_to_what_was_answered(head: str, pets: Path, request: pytest.FixtureRequest) -> None:
    classifier = made(pets, head, request)
    images = asked(classifier)
    expected = centred_logs(classifier, images)
    for c in range(3):
        found = evidence.contributions(classifier, classifier.network.features(images), torch.full((4,), c))
        assert found is not None and found.of_images.shape == (4, 11)
        np.testing.assert_allclose(found.of_images.sum(1) + found.offset, expected[:, c], atol=1e-4)


def test_a_prototype_is_shared_equally_and_an_images_own_likeness_decides(
    pets: Path, request: pytest.FixtureRequest
) -> None:
    classifier = made(pets, "prototypes", request)
    z, y = classifier.support.z.double(), classifier.support.y
    z = z / z.norm(dim=1, keepdim=True)
    middle = torch.stack([z[y == c].mean(0) for c in range(3)]).mean(0)
    x = classifier.network.features(asked(classifier)[:1]).double()
    found = evidence.contributions(classifier, x, torch.tensor([0]))
    factor = 2 * classifier.head.scale / classifier.head.spread / classifier.temperature  # type: ignore[attr-defined]
    for i in range(11):
        share = (float(y[i] == 0) - 1 / 3) / int((y == y[i]).sum())
        assert found is not None
        expected = factor * share * (z[i] - middle) @ (x[0] / x[0].norm() - middle)
        assert float(found.of_images[0, i]) == pytest.approx(float(expected), abs=1e-9)


@pytest.mark.parametrize("head", [*KINDS, "protonet", "maml"])
def test_influence_is_that_of_starting_again(head: str, pets: Path, request: pytest.FixtureRequest) -> None:
    classifier = made(pets, head, request)
    images = asked(classifier)
    x = classifier.network.preparing.numbers(images) if classifier.head.sees else classifier.network.features(images)
    row = 5
    assert classifier.support.names[row] == "dog/01.png"
    left = evidence.without(classifier, x, [row])[:, 0] * classifier.temperature
    (pets / "dog" / "01.png").unlink()
    again = made(pets, head, request)
    np.testing.assert_allclose(left, centred_logs(again, images) * again.temperature, atol=2e-4)


@pytest.mark.parametrize("head", ["prototypes", "ridge", "protonet", "maml"])
def test_saliency_is_complete(head: str, pets: Path, request: pytest.FixtureRequest) -> None:
    """Pixels sum to the logit less that of an image of the same mean colour."""
    classifier = made(pets, head, request)
    image = asked(classifier)[1]
    flat = (image.float() / 255).mean((1, 2), keepdim=True).expand_as(image)
    c = 2
    expected = centred_logs(classifier, torch.stack([image.float() / 255, flat]))[:, c]
    found = saliency(Whole(classifier).eval(), image, c)
    assert (found.logit, found.baseline) == pytest.approx(tuple(expected), abs=1e-4)
    assert found.pixels.shape == image.shape
    difference = expected[0] - expected[1]
    assert abs(float(found.pixels.sum()) - difference) <= SMALL * max(abs(difference), 1.0) + 1e-4
    assert float(found.pixels.abs().max()) > 0


def test_an_overlay_is_red_for_and_blue_against() -> None:
    pixels = torch.zeros(3, 40, 40)
    pixels[:, :, :20], pixels[:, :, 20:] = 1, -1
    seen = np.asarray(overlay(torch.full((3, 40, 40), 128, dtype=torch.uint8), pixels)).astype(int)
    left, right = seen[168, 40], seen[168, -40]
    assert left[0] > left[2] + 50 and right[2] > right[0] + 50
    none = np.asarray(overlay(torch.full((1, 40, 40), 128, dtype=torch.uint8), torch.zeros(1, 40, 40)))
    assert (none == 128).all()


def test_the_command_writes_a_page_its_numbers_and_pictures(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    classifier = made(pets, "ridge", request)
    classifier.save("x.classifier")
    new = folder(tmp_path / "new", ["cat", 'a "b" <c>'], 1, start=40)
    assert main(["explain", "x.classifier", "new", "--out", "why"]) == 0
    said = capsys.readouterr()
    assert "page: why/index.html" in said.out and "not there" not in said.err
    assert {path.name for path in Path("why").iterdir()} == {
        "index.html",
        "explanations.json",
        "cat-40.png",
        'a "b" <c>-40.png',
    }
    found = json.loads(Path("why/explanations.json").read_text())
    expected = classifier.predict_proba([one["file"] for one in found])
    for one, p in zip(found, expected, strict=True):
        assert one["explained"] == classifier.classes_[p.argmax()]
        assert one["probabilities"] == pytest.approx(dict(zip(NAMES, p, strict=True)))
        total = sum(w["contribution"] for w in one["support"]) + one["offset"]
        assert total == pytest.approx(one["logit"], abs=1e-6) and len(one["support"]) == 11
        order = [w["contribution"] for w in one["support"]]
        assert order == sorted(order, reverse=True)
    page = Path("why/index.html").read_text()
    assert page.count("<img") == 2 * (2 + 11) and "<c>" not in page and "http" not in page
    with Image.open(new / "cat" / "40.png") as original, Image.open("why/cat-40.png") as seen:
        assert seen.mode == "RGB" and seen.size[0] > original.size[0]
    assert main(["explain", "x.classifier", "new/cat/40.png", "--class", "owl", "--most", "4", "--out", "why"]) == 0
    (one,) = json.loads(Path("why/explanations.json").read_text())
    assert one["explained"] == "owl" and len(one["support"]) == 4 and one["others"]["images"] == 7
    total = sum(w["contribution"] for w in one["support"]) + one["others"]["contribution"] + one["offset"]
    assert total == pytest.approx(one["logit"], abs=1e-6)


def test_pictures_that_are_gone_or_others_are_told_of(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    made(pets, "prototypes", request).save("x.classifier")
    picture(0, 70).save("new.png")
    (pets / "cat" / "00.png").unlink()
    picture(2, 71).save(pets / "dog" / "00.png")
    assert main(["explain", "x.classifier", "new.png"]) == 0
    said = capsys.readouterr().err
    assert "1 pictures of the support are not there" in said and "other pictures now" in said and "dog/00.png" in said
    page = Path("explanation/index.html").read_text()
    assert page.count("<img") == 2 + 9 and page.count("no picture") == 2
    folder(pets, NAMES[:2], 4)  # as they were
    shutil.move(pets, tmp_path / "elsewhere")
    assert main(["explain", "x.classifier", "new.png"]) == 0
    assert "11 pictures of the support are not there" in capsys.readouterr().err
    assert main(["explain", "x.classifier", "new.png", "--support", "elsewhere"]) == 0
    assert "not there" not in capsys.readouterr().err
    assert Path("explanation/index.html").read_text().count("<img") == 2 + 11


def test_pictures_that_a_classifier_keeps_need_no_folder(pets: Path, request: pytest.FixtureRequest) -> None:
    made(pets, "maml", request).save("x.classifier")
    shutil.rmtree(pets)
    picture(0, 70).save("new.png")
    assert main(["explain", "x.classifier", "new.png"]) == 0
    (one,) = json.loads(Path("explanation/explanations.json").read_text())
    assert one["offset"] is None and {w["contribution"] for w in one["support"]} == {None}
    order = [w["influence"] for w in one["support"]]
    assert order == sorted(order, reverse=True)
    assert Path("explanation/index.html").read_text().count("<img") == 2 + 11


def test_an_only_image_has_no_influence(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    place = folder(tmp_path / "some", NAMES, 1)
    classifier = made(folder(place, NAMES[:1], 3), "prototypes", request)
    picture(0, 70).save("new.png")
    (found,) = explanations(classifier, ["new.png"])
    names = [classifier.support.names[w.row] for w in found.witnesses if w.influence is None]
    assert sorted(names) == ["dog/00.png", "owl/00.png"]
    assert all(w.contribution is not None for w in found.witnesses)


def test_bad_words(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    made(pets, "prototypes", request).save("good")
    whole = Path("good").read_bytes()
    Path("bad").write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    picture(0, 70).save("new.png")
    Path("notes.png").write_text("no image")
    capsys.readouterr()
    cases = {
        "nowhere new.png": "there is no classifier nowhere",
        "bad new.png": "bad was changed or damaged",
        "good notes.png": "notes.png can't be read",
        "good none.png": "there is nothing at none.png",
        "good new.png --class cta": "there is no class cta; did you mean cat?",
        "good new.png --support none": "there is nothing at --support none",
        "good new.png --out new.png": "--out new.png is a file",
        "good new.png --out new.png/why": "can't be written",
        "good new.png --out /proc/why": "can't be written",
        "good new.png --most 0": "0 must be at least 1",
        "good new.png --device tpu": "device=tpu is not here; there is cpu",
        "good": "IMAGES",
    }
    before = sorted(tmp_path.rglob("*"))
    for words, message in cases.items():
        assert main(["explain", *words.split()]) == 2, words
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("metavision: error: ")]
        assert len(said) == 1 and message in said[0], said
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("pets")
def test_what_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    assert main(["explain", "x.classifier", "new.png"]) == 2
    assert "pip install captum\n" in capsys.readouterr().err
