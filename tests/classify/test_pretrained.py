"""Classifiers on networks of torchvision and timm, from files as these libraries write them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision import models, transforms

import metavision
from metavision import trees
from metavision.backbones.preprocessing import Preprocessing
from metavision.classify.heads.own import Own
from metavision.classify.making import changed
from metavision.cli.__main__ import main
from metavision.types import Examples, Inputs
from tests.classify.photos import SMALL, folder, picture
from tests.nn.test_pretrained import shaken

timm: Any = pytest.importorskip("timm")
NAMES = ["cat", "dog", "owl"]
FINETUNE = ["algo=finetune", "algo.steps=2", "algo.rule.lr=0.01"]
PMF = ["algo=pmf", "algo.steps=1", "algo.rates=[0.01]"]


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as timm saves it, of a network with statistics and offsets of its own."""
    place = tmp_path_factory.mktemp("weights") / "vit"
    timm.models.save_for_hf(shaken(timm.create_model("test_vit")), str(place), safe_serialization=True)
    return place


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, of a network with batch normalisation."""
    place = tmp_path_factory.mktemp("weights") / "tiny"
    timm.models.save_for_hf(shaken(timm.create_model("test_resnet")), str(place), safe_serialization=True)
    return place


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet.pth"
    torch.save(shaken(models.resnet18()).state_dict(), path)
    return path


@pytest.fixture
def support(tmp_path: Path) -> Path:
    return folder(tmp_path / "pets", NAMES, 3)


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Photographs that are wide, high, square and smaller than the network's images."""
    whole = [Image.fromarray(image) for image in load_sample_images().images]
    made = [
        whole[0],
        whole[1].crop((100, 0, 321, 427)),
        whole[1].crop((7, 7, 260, 260)),
        whole[0].crop((50, 9, 151, 70)),
    ]
    paths = [tmp_path / f"photo{i}.png" for i in range(len(made))]
    for image, path in zip(made, paths, strict=True):
        image.save(path)
    return paths


def words_of(place: Path) -> tuple[str, list[str]]:
    """The backbone of weights at a place, and what else makes it."""
    return ("timm" if place.is_dir() else "resnet18_in1k"), [f"backbone.weights={place}"]


def adapted(place: Path, support: Path, *more: str, head: str = "auto") -> metavision.Classifier:
    backbone, words = words_of(place)
    return metavision.adapt(support, backbone=backbone, head=head, overrides=[*words, *more])


def probabilities(classifier: metavision.Classifier) -> np.ndarray:
    images = np.stack([classifier.network.preparing.pixels(np.array(picture(k, 9))) for k in range(3)])
    return classifier.predict_proba(images)


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """But for pixels that are rounded otherwise; to cut out elsewhere by a pixel does fifty times as much."""
    assert float((found - expected).norm() / expected.norm()) < 5e-4


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_features_of_photos_are_those_of_timm(name: str, tmp_path: Path, photos: list[Path]) -> None:
    network = shaken(timm.create_model(name))
    timm.models.save_for_hf(network, str(tmp_path / "saved"), safe_serialization=True)
    own = timm.data.create_transform(**timm.data.resolve_data_config(model=network))
    peer = timm.create_model(name, num_classes=0)
    peer.load_state_dict(network.state_dict(), strict=False)
    with torch.no_grad():
        expected = peer.eval()(torch.stack([own(Image.open(path)) for path in photos]))
    made = adapted(tmp_path / "saved", folder(tmp_path / "pets", NAMES, 1))
    close(made.network.features(made.pixels(photos)), expected)


def test_features_of_photos_are_those_of_torchvision(resnet: Path, support: Path, photos: list[Path]) -> None:
    peer = models.resnet18()
    peer.load_state_dict(torch.load(resnet, weights_only=True))
    peer.fc = torch.nn.Identity()
    own = models.ResNet18_Weights.DEFAULT.transforms()
    with torch.no_grad():
        expected = peer.eval()(torch.stack([own(Image.open(path)) for path in photos]))
    made = adapted(resnet, support)
    close(made.network.features(made.pixels(photos)), expected)


@pytest.mark.parametrize(("width", "height"), [(640, 427), (427, 640), (50, 50), (31, 97), (1000, 333), (224, 225)])
@pytest.mark.parametrize("squash", [False, True])
def test_the_box_of_an_image_is_what_resizing_and_cutting_leave(width: int, height: int, squash: bool) -> None:
    """Pixel for pixel but for rounding, by torchvision's transforms of Pillow's images; of middling light, since what
    is brighter than white is cut off between rows and columns, whichever Pillow takes first."""
    wanted = Preprocessing(32, (0.0,), (1.0,), "bicubic", 0.85, squash)
    pixels = np.random.default_rng(0).integers(80, 176, (height, width, 3), np.uint8)
    image = Image.fromarray(pixels)
    sides = [wanted.resized] * (2 if squash else 1)
    bicubic = transforms.InterpolationMode.BICUBIC
    steps = [transforms.Resize(sides[0] if len(sides) == 1 else sides, bicubic), transforms.CenterCrop(32)]
    expected = transforms.Compose(steps)(image)
    found = image.resize((32, 32), Image.Resampling.BICUBIC, box=wanted.box(width, height))
    assert np.abs(np.asarray(found, int) - np.asarray(expected, int)).max() <= 1


def test_a_long_and_narrow_image_is_cut_before_it_is_enlarged(resnet: Path, support: Path, tmp_path: Path) -> None:
    Image.new("RGB", (60_000, 2), "red").save(tmp_path / "line.png")  # 7.7 million pixels wide, were it resized whole
    assert adapted(resnet, support).pixels([tmp_path / "line.png"]).shape == (1, 3, 224, 224)


@pytest.mark.parametrize(
    ("which", "more"), [("resnet", []), *((name, more) for name in ("vit", "tiny") for more in (FINETUNE, PMF))]
)
def test_a_classifier_needs_no_file_of_weights(
    which: str, more: list[str], support: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place = tmp_path / "copy"
    original = request.getfixturevalue(which)
    shutil.copytree(original, place) if original.is_dir() else shutil.copy(original, place)
    if which == "resnet":
        place = place.rename(tmp_path / "copy.pth")
    backbone, words = words_of(place)
    assert main(["adapt", f"backbone={backbone}", *words, *more, f"support={support}", "folds=2"]) == 0
    before = probabilities(adapted(place, support, *more, "folds=2"))
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    read = metavision.Classifier.load("pets.classifier")
    np.testing.assert_allclose(probabilities(read), before, atol=1e-5)
    assert main(["predict", "pets.classifier", str(support), "--out", "labels.csv"]) == 0
    read.save("again.classifier")
    again = metavision.Classifier.load("again.classifier")
    assert again.network.about == read.network.about and again.network.preparing == read.network.preparing
    np.testing.assert_array_equal(probabilities(again), probabilities(read))


def test_provenance_is_in_card_and_report(vit: Path, support: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adapt", "backbone=timm", f"backbone.weights={vit}", f"support={support}"]) == 0
    said = capsys.readouterr().out
    assert "track: external" in said
    assert f"pre-trained: test_vit.r160_in1k of timm {timm.__version__}, model.safetensors, licence apache-2.0" in said
    about = metavision.Classifier.load("pets.classifier").network.about
    assert about["track"] == "external" and about["pretrained"]["licence"] == "apache-2.0"
    assert str(vit.parent) not in json.dumps(about)


def test_a_run_on_a_pretrained_network(vit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its head, its preprocessing and where its weights come from, without their file."""
    place = tmp_path / "weights"
    shutil.copytree(vit, place)
    few = ["budget.steps=0", "budget.validation_episodes=2", "budget.test_episodes=2", "outputs=runs"]
    few += [word for word in SMALL if not word.startswith("budget")]
    few += ["episode.way=2", "episode.query=1"]
    words = ["backbone=timm", f"backbone.weights={place}", "backbone.size=32", *few]
    assert main(["train", *PMF, "algo.trials=2", *words]) == 0
    run = next(Path("runs").glob("*/seed0"))
    shutil.rmtree(place)
    capsys.readouterr()
    pets = folder(tmp_path / "pets", NAMES, 2)
    assert main(["adapt", f"run={run}", f"support={pets}"]) == 0
    said = capsys.readouterr().out
    assert (
        "track: external" in said and "pre-trained: test_vit.r160_in1k" in said and "chosen on the support" not in said
    )
    read = metavision.Classifier.load("pets.classifier")
    assert read.head.name == "own" and read.task.choice == ""
    assert read.network.about["chosen"]["name"].startswith("rate=")
    other = metavision.adapt(pets, run=run, overrides=["algo=finetune", "algo.tune=bitfit", "algo.steps=1"])
    other.save("other.classifier")
    np.testing.assert_array_equal(probabilities(metavision.Classifier.load("other.classifier")), probabilities(other))


def test_fine_tuned_numbers_are_what_the_algorithm_finds(vit: Path, support: Path) -> None:
    """Those of `adapt` on the whole support, and classes added and removed as from the beginning."""
    lora = [*FINETUNE, "algo.tune=lora", "folds=0"]
    made = adapted(vit, support, *lora)
    assert made.card["estimate"] is None and made.temperature == 1
    extra = made.task.task.extra
    assert extra and all(name.endswith((".A", ".B")) for name in extra)
    assert max(float(t.abs().max()) for name, t in extra.items() if name.endswith(".B")) > 0
    four = folder(support.parent / "four", [*NAMES, "yak"], 3)
    grown = changed(made, add=[four / "yak"], folds=0)
    whole = adapted(vit, four, *lora)
    np.testing.assert_allclose(probabilities(grown), probabilities(whole), atol=1e-5)
    back = changed(grown, remove=["yak"], folds=0)
    np.testing.assert_allclose(probabilities(back), probabilities(made), atol=1e-5)


@pytest.mark.parametrize("k", [2, 5, 10])
def test_an_algorithm_with_outputs_gets_as_many_as_there_are_classes(k: int, vit: Path, tmp_path: Path) -> None:
    place = folder(tmp_path / "many", [f"class {i}" for i in range(k)], 2)
    made = adapted(vit, place, "algo=maml", "algo.test_steps=1", "folds=2", head="own")
    made.save("x.classifier")
    read = metavision.Classifier.load("x.classifier")
    assert probabilities(read).shape == (3, k)
    np.testing.assert_array_equal(probabilities(read), probabilities(made))
    assert read.network.algorithm.problem.way == k


def test_fitting_the_head_alone_is_done_on_features(vit: Path, support: Path) -> None:
    """Which changes nothing but the time that it takes."""
    head = [*FINETUNE, "algo.tune=head", "folds=2"]
    quick = adapted(vit, support, *head)
    assert not quick.head.sees
    network, images = quick.network, quick.pixels(sorted(support.rglob("*.png")))
    algorithm, y = network.algorithm, quick.support.y
    x = network.preparing.numbers(images)
    task = algorithm.adapt(network.meta, Examples(x, y))
    slow = algorithm.predict(network.meta, task, Inputs(x)).detach()
    fast = quick.head.logits(quick.task, network.features(images))
    torch.testing.assert_close(fast, slow.double(), rtol=1e-4, atol=1e-4)


def test_the_choice_is_made_anew_without_what_is_held_out(
    vit: Path, support: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the estimate would be of a choice that has seen its answers."""
    seen: list[int] = []
    chosen = Own._chosen

    def spied(self: Own, x: torch.Tensor, y: torch.Tensor, k: int) -> Any:
        if self.chooses:
            seen.append(len(y))
        return chosen(self, x, y, k)

    monkeypatch.setattr(Own, "_chosen", spied)
    made = adapted(vit, support, *PMF)
    assert seen == [6, 6, 6, 9] and made.card["estimate"]["how"] == "3 folds"
    assert made.card["choice"] in ("rate=0", "rate=0.01")
    one = adapted(vit, folder(support.parent / "one", NAMES, 1), *PMF)
    assert one.card["choice"] == "rate=0"


def test_bad_words(vit: Path, support: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(tmp_path.rglob("*"))
    cases = {
        "backbone=timm": "backbone.name is needed",
        "backbone=timm backbone.name=test_vit backbone.weights=nowhere.pth": "must be default, none, or the path",
        f"backbone=resnet18_in1k backbone.weights={vit}": "does not fit torchvision's resnet18",
        f"backbone=timm backbone.weights={vit} backbone.crop=1.5": "backbone.crop 1.5, a share above 0, at most 1",
        "backbone=timm backbone.name=test_vit backbone.weights=none": "comes without trained weights",
        f"backbone=timm backbone.weights={vit} folds=1": "folds is 1",
        f"backbone=timm backbone.weights={vit} algo=tim head=own": "TIM learns from all images",
    }
    for words, message in cases.items():
        assert main(["adapt", f"support={support}", *words.split()]) == 2, words
        assert message in capsys.readouterr().err, words
    assert sorted(tmp_path.rglob("*")) == before


def test_statistics_are_those_of_the_file(resnet: Path, support: Path) -> None:
    made, state = adapted(resnet, support), torch.load(resnet, weights_only=True)
    kept = trees.select(made.network.meta.buffers, "backbone.network")
    assert torch.equal(kept["bn1.running_mean"], state["bn1.running_mean"])


def test_simpleshot_centres_on_the_support_where_no_training_has_found_a_mean(
    tiny: Path, vit: Path, support: Path
) -> None:
    """Of a network with statistics and of a transformer: nearest means of centred features that were made to norm 1."""
    for place in (tiny, vit):
        made = adapted(place, support, "algo=simpleshot", head="own")
        assert isinstance(made.head, Own) and "centre" in made.head.meta.buffers
        images = np.stack([made.network.preparing.pixels(np.array(picture(k, 9))) for k in range(3)])
        z, zq = made.support.z, made.network.features(torch.from_numpy(images))
        a, b = (torch.nn.functional.normalize(part - z.mean(0), dim=-1) for part in (z, zq))
        means = torch.stack([a[made.support.y == k].mean(0) for k in range(3)])
        expected = -(b.unsqueeze(1) - means).square().sum(-1)
        torch.testing.assert_close(made.head.logits(made.task, zq).float(), expected.float(), rtol=1e-3, atol=1e-4)
