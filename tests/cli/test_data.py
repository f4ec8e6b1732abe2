"""`metavision data` and data of every kind through train and evaluate."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import metavision
from metavision.cli.__main__ import main
from metavision.cli.datasets import names
from metavision.data.batches import Episodes
from metavision.data.episodes import EpisodeSampler
from metavision.data.images import Images
from metavision.data.resident import resident
from metavision.data.sources.folder import ImageFolder
from metavision.data.spec import EpisodeSpec
from metavision.types import Examples
from tests.cli.test_runs import run_folder, train


def photos(root: Path, kinds: int = 20, each: int = 8) -> Path:
    """Noisy images around one colour for each class."""
    rng = np.random.default_rng(0)
    for c in range(kinds):
        (root / f"kind {c:02d}").mkdir(parents=True)
        colour = rng.integers(0, 256, 3)
        for i in range(each):
            noisy = (colour + rng.normal(0, 40, (20, 20, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(root / f"kind {c:02d}" / f"{i}.png")
    return root


def test_the_list_names_every_set(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAVISION_DATA", "nowhere")
    assert main(["data", "list"]) == 0
    said = capsys.readouterr().out
    assert len(names()) >= 17
    for name in names():
        assert name in said
    assert "place CUB" in said or "CUB_200_2011.tgz" in said


def test_prepare_show_and_verify(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    root = photos(tmp_path / "photos")
    options = ["folder", f"path={root}", "size=20"]
    assert main(["data", "prepare", *options]) == 0
    said = capsys.readouterr().out
    assert "photos, 3x20x20" in said and "MiB in" in said
    assert main(["data", "show", *options]) == 0
    for picture in ("train", "val", "test", "episode"):
        with Image.open(Path("outputs/data/folder") / f"{picture}.png") as image:
            assert min(image.size) > 300
            assert np.asarray(image.convert("L")).std() > 20
    assert main(["data", "verify", *options]) == 0
    assert "160 images are as they were packed" in capsys.readouterr().out
    (root / "kind 03" / "0.png").write_bytes(b"broken")
    capsys.readouterr()
    assert main(["data", "verify", *options]) == 2
    assert "1 image can't be read (kind 03/0.png" in capsys.readouterr().err
    assert main(["data", "verify", *options, "skip_corrupt=true"]) == 1
    assert "1 were left out: kind 03/0.png" in " ".join(capsys.readouterr().out.split())


BAD = {
    "data": "the following arguments are required: ACTION; metavision data --help",
    "data sho glyphs": "invalid choice: 'sho'",
    "data show": "the following arguments are required: NAME",
    "data show omniglott": "there is no data=omniglott; did you mean omniglot?",
    "data prepare glyphs sise=30": "data has no option sise; did you mean size?",
    "data prepare glyphs size=4": "data.size is 4; glyphs are drawn at 8 or more",
    "data prepare cub split=mine root=.": "data.split is 'mine', of type str; it must be closerlook or feat or easyfsl",
    "data show folder path=nowhere": "data.path is nowhere, which does not exist",
    "data show folder": "path",
    "bench": "the following arguments are required: what",
    "bench dat": "invalid choice: 'dat'",
    "train data=mnist data.root=nowhere data.download=false": "place the four files",
    "train data=folder data.path=nowhere logger=none": "data.path is nowhere, which does not exist",
    "train episode.hierarchy=sideways": "episode.hierarchy: Invalid value 'sideways', expected one of [any",
    "train episode.sizes=uniform episode.way_min=7": "way_min=7, shot_min=1 must not be above way=5, shot=1",
    "train episode.distractors=2": "distractors is 2, but unlabelled is 0",
    "train episode.balance=-1": "balance is -1.0; it must be above 0",
    "train augment=strng": "there is no augment=strng; did you mean strong?",
    "train augment.mix=-1": "augment.mix is -1; it must be above 0",
    "train augment.crop=2": "has no option crop",
}


@pytest.mark.parametrize("line", BAD)
def test_one_line_and_exit_code_2(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 2
    error = capsys.readouterr().err.removeprefix("packing glyphs: 20680 images\n")  # where the cache is still empty
    assert BAD[line] in error
    assert error.startswith("metavision: error: ") and error.count("\n") == 1


@pytest.mark.slow
def test_a_folder_of_photos_is_trained_on_and_tested_across_domains(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = photos(tmp_path / "photos")
    words = ["data=folder", f"data.path={root}", "data.size=20", "episode.way=3", "scaling=standard"]
    assert train(*words, "augment=standard", "augment.mix=0.5", "augment.turn_classes=true", "budget.steps=4") == 0
    assert "data: photos, train in memory, val in memory" in capsys.readouterr().err
    folder = run_folder()

    # What is loaded scales as training did, and so finds what evaluation found.
    algorithm, meta, scaling = metavision.load(folder)
    source = ImageFolder(path=str(root), size=20).source("test")
    assert not scaling.is_unit
    images = Images(resident(source, torch.device("cpu")), scaling)
    episode = Episodes(EpisodeSampler(source, EpisodeSpec(3, 1, 2), seed=0), images).batch([0])
    support, query = (Examples(*(part[0] for part in examples[:2])) for examples in episode[:2])
    logits = algorithm.predict(meta, algorithm.adapt(meta, support), query.inputs)
    accuracy = float((logits.argmax(1) == query.y).double().mean())
    assert accuracy == pytest.approx(np.load(folder / "episodes.npz")["trained"][0])

    # Another set, with images made as the network wants them: the grey of glyphs as colours, of size 20.
    assert main(["evaluate", f"run={folder}", "data=glyphs", "episodes=20", "engine.threads=1"]) == 0
    (across,) = folder.glob("evaluations/*/result.json")
    assert json.loads(across.read_text())["data"] == "glyphs"

    # Without replacement there are only so many episodes.
    capsys.readouterr()
    assert main(["evaluate", f"run={folder}", "replacement=false", "engine.threads=1"]) == 0
    assert "episodes without a common image" in capsys.readouterr().out
    results = [json.loads(path.read_text()) for path in folder.glob("evaluations/*/result.json")]
    (apart,) = [result for result in results if not result["replacement"]]
    assert 2 <= apart["episodes"]["n"] <= 4 * 8 // (3 * 3)

    # Its training classes are known wherever they are met again.
    assert main(["evaluate", f"run={folder}", "data=folder", f"data.path={root}", "data.split=none"]) == 2
    assert "12 of the 20 classes were trained on" in capsys.readouterr().err


def test_ordinary_classification_is_marked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from tests.data.test_catalogue import as_folder, idx_files

    as_folder(idx_files(0, train=120), tmp_path / "data" / "MNIST")
    words = ["data=mnist", "data.split=images", f"data.root={tmp_path / 'data'}", "budget.steps=2", "episode.way=10"]
    with pytest.MonkeyPatch.context() as patch:
        from metavision.data.sources.ten import MNIST

        patch.setattr(MNIST, "expected", lambda self: (None, None))
        patch.setenv("METAVISION_CACHE", str(tmp_path / "cache"))
        assert train(*words, "episode.query=1", "episode.train.query=1") == 0
        marked = "classes are the same as in training, with other images"
        assert marked in capsys.readouterr().out

        # As it tests itself, it can be evaluated; not so on the very images that it was trained on.
        command = ["evaluate", f"run={run_folder()}", "episodes=4", "engine.threads=1"]
        assert main(command) == 0
        assert marked in capsys.readouterr().out
        assert main([*command, "split=train"]) == 2
        assert "10 of the 10 classes were trained on" in capsys.readouterr().err
        assert main([*command, words[0], words[2], "data.split=unseen"]) == 2


def test_episodes_of_every_kind_train(capsys: pytest.CaptureFixture[str]) -> None:
    small = "backbone.filters=4 references=[] logger=none engine.threads=1 budget=smoke budget.steps=20 "
    small += "budget.validation_episodes=8"
    for words in (
        "algo=protonet episode.sizes=meta_dataset episode.way=20 episode.way_min=5 episode.shot=10 episode.query=5",
        "algo=maml algo.steps=1 episode.sizes=uniform episode.way_min=3 episode.shot=3",
        "algo=protonet episode.balance=2 episode.hierarchy=within",
        "algo=protonet episode.unlabelled=2 episode.distractors=1",
        "algo=protonet episode.hierarchy=across episode.way=3 episode.train.way=3",  # validation has three scripts
    ):
        assert main(["train", *words.split(), *small.split(), "budget.steps=2", "budget.test_episodes=16"]) == 0
        assert "episodes: " in capsys.readouterr().out
