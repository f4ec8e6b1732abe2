"""Exported classifiers answer as the classifier, in the programs that run them, or are not written."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import metavision
from metavision.classify.classifier import Classifier, Support
from metavision.classify.exporting import exporting
from metavision.classify.exporting.program import program, quiet
from metavision.classify.heads.own import Own
from metavision.classify.network import Network
from metavision.classify.preparing import Preparing
from metavision.classify.whole import Whole
from metavision.cli.__main__ import main
from metavision.data.decode import Decoder
from metavision.data.scaling import Scaling
from tests.algorithms.builds import CLASSES, built
from tests.algorithms.builds import NAMES as ALGORITHMS
from tests.classify.photos import folder, run

NAMES = ["cat", "large dog", 'a "b" – 日本']
VIT = ("backbone=vit_small_32", "backbone.depth=1", "backbone.width=96")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {}


@pytest.fixture
def made(tmp_path: Path, runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory):
    """A classifier by a name of a network and a head, in the file x.classifier."""
    support = folder(tmp_path / "pets", NAMES)

    def make(network: str, head: str = "own") -> Classifier:
        if network == "pixels":
            classifier = metavision.adapt(support, backbone="pixels", head=head, overrides=["size=16"])
        else:
            if network not in runs:
                words = [f"algo={'protonet' if network == 'vit' else network}", "episode.way=3", "episode.meta_batch=1"]
                backbone = VIT if network == "vit" else ("backbone.filters=8",)
                runs[network] = run(tmp_path_factory.mktemp(network), *words, backbone=backbone)
            classifier = metavision.adapt(support, run=runs[network], head=head)
        classifier.save("x.classifier")
        return classifier

    return make


def noise(classifier: Classifier, n: int = 100) -> np.ndarray:
    shape = (n, *classifier.network.preparing.shape)
    return np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)


def scaled(classifier: Classifier) -> Classifier:
    """With a scaling of pixels that is not that of [0, 1]."""
    network = classifier.network
    c = network.preparing.shape[0]
    odd = Scaling(tuple(0.2 + 0.1 * i for i in range(c)), tuple(0.5 + 0.1 * i for i in range(c)))
    return replace(classifier, network=replace(network, preparing=replace(network.preparing, scaling=odd)))


@pytest.mark.parametrize("head", ["prototypes", "ridge", "logistic"])
def test_a_whole_classifier_is_a_module(head: str, made) -> None:
    classifier = scaled(made("pixels", head))
    images = noise(classifier)
    whole = Whole(classifier).eval()
    expected = classifier.predict_proba(images)
    np.testing.assert_allclose(whole(torch.from_numpy(images)), expected, atol=1e-5)
    np.testing.assert_allclose(whole(torch.from_numpy(images).float() / 255), expected, atol=1e-5)
    np.testing.assert_allclose(whole.logits(torch.from_numpy(images)).mean(1), 0, atol=1e-4)


@pytest.mark.parametrize(("network", "head"), [("protonet", "own"), ("protonet", "ridge"), ("maml", "own")])
def test_onnxruntime_answers_as_the_classifier_does(
    network: str, head: str, made, capsys: pytest.CaptureFixture[str]
) -> None:
    """On 100 images, in batches of 1, of 9 and of 90."""
    classifier = made(network, head)
    assert main(["export", "x.classifier", "--onnx", "x.onnx"]) == 0
    assert "tried on 12 images of the support and 88 of noise" in capsys.readouterr().out
    session = onnxruntime.InferenceSession("x.onnx")
    images = noise(classifier)
    parts = [session.run(None, {"images": part})[0] for part in np.split(images, [1, 10])]
    np.testing.assert_allclose(np.concatenate(parts), classifier.predict_proba(images), atol=1e-4)
    kept = onnx.load("x.onnx")
    onnx.checker.check_model(kept)
    about = {entry.key: json.loads(entry.value) for entry in kept.metadata_props}
    beside = json.loads(Path("x.onnx.json").read_text(encoding="utf-8"))
    assert about["classes"] == beside["classes"] == classifier.classes_.tolist()
    assert about["metavision"]["preprocessing"] == beside["preprocessing"]
    assert beside["preprocessing"]["resize"] == 28 and beside["preprocessing"]["color"] == "grey"
    assert beside["checked"]["largest_difference"] <= 1e-4
    assert kept.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "n"


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_torch_answers_as_the_classifier_does(dtype: str, made) -> None:
    classifier = made("protonet", "logistic")
    words = ["--torch", "x.pt2", "--input", dtype]
    assert main(["export", "x.classifier", *words]) == 0
    extra = {"metavision": ""}
    with quiet():
        module = torch.export.load("x.pt2", extra_files=extra).module()
    images = noise(classifier)
    given = torch.from_numpy(images) if dtype == "uint8" else torch.from_numpy(images).float() / 255
    for part, expected in ((given, images), (given[:1], images[:1])):
        np.testing.assert_allclose(module(part), classifier.predict_proba(expected), atol=1e-4)
    beside = json.loads(Path("x.pt2.json").read_text(encoding="utf-8"))
    assert json.loads(extra["metavision"])["classes"] == beside["classes"] == classifier.classes_.tolist()
    assert beside["input"]["dtype"] == dtype


@pytest.mark.slow
def test_weights_of_transformers_as_bytes(made, capsys: pytest.CaptureFixture[str]) -> None:
    classifier = made("vit", "ridge")
    assert main(["export", "x.classifier", "--onnx", "x.onnx", "--torch", "x.pt2", "--int8"]) == 0
    said = capsys.readouterr().out
    assert "int8: 4 layers" in said and "held out: " in said and "of the support told right: " in said
    initial = {
        tuple(one.dims) for one in onnx.load("x.onnx").graph.initializer if one.data_type == onnx.TensorProto.INT8
    }
    assert {(96, 384), (384, 96), (96, 288)} <= initial
    about = json.loads(Path("x.onnx.json").read_text(encoding="utf-8"))["int8"]
    files = sorted(Path("pets").rglob("*.png"))
    labels = [path.parent.name for path in files]
    assert about["right_of_support"][0] == pytest.approx(classifier.score(files, labels))
    assert about["held_out"][0] == classifier.card["estimate"]["accuracy"]
    images = noise(classifier)
    small = onnxruntime.InferenceSession("x.onnx").run(None, {"images": images})[0]
    with quiet():
        again = torch.export.load("x.pt2").module()(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(small, again, atol=1e-4)
    exact = classifier.predict_proba(images)
    assert 0 < np.abs(small - exact).max() < 0.5
    assert Path("x.onnx").stat().st_size < 0.7 * Path("x.classifier").stat().st_size


def test_what_answers_otherwise_is_not_written(
    made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    classifier = made("pixels", "prototypes")
    other = Whole(replace(classifier, temperature=1.01 * classifier.temperature)).eval()
    monkeypatch.setattr(exporting, "program", lambda _, dtype: program(other, dtype))
    before = sorted(tmp_path.rglob("*"))
    for words in (["--onnx", "x.onnx"], ["--torch", "x.pt2"]):
        assert main(["export", "x.classifier", *words]) == 2
        assert "would answer otherwise than the classifier: probabilities differ by 0.0" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_without_the_supports_images_noise_is_enough(made, capsys: pytest.CaptureFixture[str]) -> None:
    made("pixels", "ridge")
    Path("pets").rename("moved")
    assert main(["export", "x.classifier", "--torch", "x.pt2"]) == 0
    said = capsys.readouterr()
    assert "0 images of the support and 100 of noise" in said.out
    assert "12 images of the support are not at hand; --support FOLDER" in said.err
    assert main(["export", "x.classifier", "--torch", "x.pt2", "--support", "moved"]) == 0
    assert "12 images of the support and 88 of noise" in capsys.readouterr().out


def test_bad_words(made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made("pixels", "ridge")
    whole = Path("x.classifier").read_bytes()
    Path("bad").write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    Path("folder.onnx").mkdir()
    cases = {
        "x.classifier": "--onnx FILE or --torch FILE is needed",
        "nowhere --onnx x.onnx": "there is no classifier nowhere",
        "bad --onnx x.onnx": "bad was changed or damaged",
        "x.classifier --onnx x.classifier": "--onnx is x.classifier; it must end in .onnx",
        "x.classifier --torch x.onnx": "--torch is x.onnx; it must end in .pt2",
        "x.classifier --onnx folder.onnx": "folder.onnx is a folder",
        "x.classifier --onnx bad/x.onnx": "can't be written",
        "x.classifier --onnx x.onnx --support none": "there is nothing at --support none",
        "x.classifier --onnx x.onnx --int8": "--int8 is of linear layers, as transformers have; Pixels has none",
        "x.classifier --onnx x.onnx --input int4": "invalid choice: 'int4'",
    }
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    for words, message in cases.items():
        assert main(["export", *words.split()]) == 2, words
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1, said
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime", "torchao"])
def test_what_is_not_installed_is_told(
    package: str, made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made("pixels", "ridge")
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else find(name, *rest))
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    assert main(["export", "x.classifier", "--onnx", "x.onnx", *(["--int8"] if package == "torchao" else [])]) == 2
    said = capsys.readouterr().err
    assert f"needs {package}, which is not installed: pip install {package}\n" in said
    assert said.count("\n") == 1 and sorted(tmp_path.rglob("*")) == before


def untrained(name: str) -> Classifier:
    """An algorithm of `conf/algo` as it starts, with its own head on twelve images of noise."""
    algorithm = built(name).for_evaluation()
    preparing = Preparing(Decoder(16, "grey"))
    pixels = torch.randint(
        0, 256, (12, *preparing.shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    meta = algorithm.calibrate(algorithm.init(torch.Generator().manual_seed(0)), preparing.numbers(pixels))
    network = Network(algorithm, meta, preparing, {}, CLASSES, {}).settled(pixels)
    y, names = torch.arange(3).repeat_interleave(4), tuple(map(str, range(12)))
    head = Own.of(algorithm, meta)
    support = Support(("a", "b", "c"), names, y, network.features(pixels), pixels if head.sees else None)
    return Classifier.fit(network, head, support)[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_with_a_head_of_its_own_is_exported(name: str) -> None:
    try:
        classifier = untrained(name)
    except metavision.errors.InputError as error:
        if "can't answer one by one" not in str(error):
            raise
        return  # these have no such head
    exporting.export(classifier, [Path("x.onnx"), Path("x.pt2")])
    images = noise(classifier)
    got = onnxruntime.InferenceSession("x.onnx").run(None, {"images": images})[0]
    np.testing.assert_allclose(got, classifier.predict_proba(images), atol=1e-4)
