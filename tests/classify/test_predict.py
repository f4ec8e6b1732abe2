"""Labels of new images: what is written, and what becomes of files that can't be read."""

import csv
import json
import os
from pathlib import Path

import pytest

import metavision
from metavision.classify import streaming
from metavision.classify.sheet import MOST, Sheet
from metavision.classify.streaming import Answer
from metavision.cli.__main__ import main
from tests.classify.photos import folder, picture

NAMES = ["cat", "large dog", 'a "b", c/d']


@pytest.fixture
def classifier(tmp_path: Path) -> metavision.Classifier:
    support = folder(tmp_path / "support", NAMES, 5)
    made = metavision.adapt(support, backbone="pixels", head="ridge", overrides=["size=16"])
    made.save("x.classifier")
    return made


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return folder(tmp_path / "new", NAMES, 3, start=30)


def rows(name: str) -> list[dict[str, str]]:
    with Path(name).open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def test_csv_and_json_say_what_the_classifier_does(classifier: metavision.Classifier, new: Path) -> None:
    assert main(["predict", "x.classifier", "new", "--out", "x.csv", "--top", "0", "--unknown", "0"]) == 0
    assert main(["predict", "x.classifier", "new", "--out", "x.json", "--top", "2", "--neighbours", "1"]) == 0
    files = [row["file"] for row in rows("x.csv")]
    assert files == list(streaming.found(["new"])) and len(files) == 9
    expected = classifier.predict_proba(files)
    for row, p in zip(rows("x.csv"), expected, strict=True):
        assert row["prediction"] == row["class_1"] == classifier.classes_[p.argmax()]
        told = {row[f"class_{i}"]: float(row[f"probability_{i}"]) for i in (1, 2, 3)}
        assert told == pytest.approx(dict(zip(classifier.classes_, p, strict=True)), abs=1e-4)
        assert float(row["cosine_1"]) >= float(row["cosine_2"])
        assert row["nearest_1"] in classifier.support.names
    objects = json.loads(Path("x.json").read_text(encoding="utf-8"))
    assert [one["file"] for one in objects] == files
    assert [one["probability"] for one in objects] == pytest.approx(expected.max(1).tolist())
    assert {len(one["classes"]) for one in objects} == {2} and {len(one["nearest"]) for one in objects} == {1}


@pytest.mark.usefixtures("classifier")
def test_standard_output_is_csv_alone(new: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "x.classifier", str(new)]) == 0
    table = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert len(table) == 9 and {row["prediction"] for row in table} <= {*NAMES, "unknown"}


@pytest.mark.usefixtures("classifier")
def test_bad_files_are_told_of_and_nothing_good_is_lost(new: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(30):
        (new / "cat" / f"bad{i:02}.jpg").write_bytes(b"x")
    (new / "cat" / "notes.txt").write_text("no image, and passed over")
    assert main(["predict", "x.classifier", "new", "--out", "x.csv", "--sheet", "x.html"]) == 3
    table = rows("x.csv")
    assert len(table) == 39
    assert sum(bool(row["error"]) for row in table) == 30 == sum(not row["prediction"] for row in table)
    said = capsys.readouterr().err
    assert said.count("skipped new") == 20 and "skipped 10 more" in said and "30 skipped" in said
    assert Path("x.html").read_text().count("<img") == 9
    assert main(["predict", "x.classifier", "new/cat/bad00.jpg", "--out", "y.json"]) == 3
    assert "error" in json.loads(Path("y.json").read_text())[0]


@pytest.mark.usefixtures("classifier")
def test_words_mean_files_folders_and_patterns(new: Path) -> None:
    picture(0, 77).save("odd.name", "PNG")
    picture(0, 78).save("what[1].png")
    assert (
        len(list(streaming.found([str(new), "odd.name", "new/*/30.png", "new/**/3?.png", "what[1].png"])))
        == 9 + 1 + 2 + 9 + 1
    )


@pytest.mark.usefixtures("classifier")
def test_far_images_are_unknown(tmp_path: Path) -> None:
    support = folder(tmp_path / "many", NAMES, 15)
    made = metavision.adapt(support, backbone="pixels", head="ridge", overrides=["size=16"])
    picture(7, 0).save("far.png")
    (answer,) = streaming.answers(made, ["far.png"])
    (never,) = streaming.answers(made, ["far.png"], unknown=0)
    assert answer.prediction == "unknown" and never.prediction in NAMES
    known = [one.prediction for one in streaming.answers(made, streaming.found(["support"]))]
    assert known.count("unknown") <= 2


@pytest.mark.usefixtures("classifier", "new")
def test_bad_words(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    cases = {
        "predict x.classifier nowhere": "there is nothing at nowhere",
        "predict x.classifier new/*.tiff": "there is nothing at new/*.tiff",
        "predict x.classifier nothing": "no images at nothing",
        "predict nowhere new": "there is no classifier nowhere",
        "predict new/cat/30.png new": "no classifier, or damaged",
        "predict x.classifier new --out x.txt": "--out is x.txt; it must end in .csv or .json, or be -",
        "predict x.classifier new --out /dev/null/x.csv": "can't be written",
        "predict x.classifier new --unknown 2": "2 is no share",
        "predict x.classifier new --top -1": "-1 must not be negative",
        "predict x.classifier new --device tpu": "tpu",
        "predict x.classifier": "the following arguments are required: PHOTOS",
    }
    before = sorted(tmp_path.rglob("*"))
    for words, message in cases.items():
        assert main(words.split()) == 2, words
        said = [one for one in capsys.readouterr().err.splitlines() if not one.startswith("predicting")]
        assert len(said) == 1 and message in said[0], words
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("new")
def test_output_is_whole_or_absent(classifier: metavision.Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("x.csv").write_text("of an earlier command")
    real, calls = type(classifier).answers, []

    def fails(self: metavision.Classifier, *words: object) -> object:
        calls.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(type(classifier), "answers", fails)
    assert main(["predict", "x.classifier", "new", "--out", "x.csv"]) == 130 and calls
    assert Path("x.csv").read_text() == "of an earlier command" and not list(Path().glob(".x.csv*"))
    monkeypatch.setattr(type(classifier), "answers", real)


def test_a_sheet_keeps_a_sample_that_no_order_changes() -> None:
    answers = [Answer(f"{i}.png", f"class {i % 3}", 0.5, ((f"class {i % 3}", 0.9),)) for i in range(2000)]
    forth, back = Sheet(), Sheet()
    for one, other in zip(answers, reversed(answers), strict=True):
        forth.add(one)
        back.add(other)
    assert sorted(forth.kept) == sorted(back.kept) and len(forth.kept) == MOST
    assert forth.seen["class 0"] == 667


def test_few_files_are_read_ahead(classifier: metavision.Classifier, tmp_path: Path) -> None:
    picture(0, 0).save("one.png")
    drawn = []

    def many() -> object:
        for i in range(100_000):
            drawn.append(i)
            yield os.fspath(tmp_path / "one.png")

    answers = streaming.answers(classifier, many())  # type: ignore[arg-type]
    for _ in range(100):
        next(answers)
    answers.close()
    assert len(drawn) < 400


@pytest.mark.usefixtures("classifier", "new")
def test_an_interruption_promises_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("metavision.classify.streaming.answers", interrupted)
    assert main(["predict", "x.classifier", "new", "--out", "labels.csv"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "metavision: error: interrupted"
    assert not Path("labels.csv").exists()
    assert main(["predict", "x.classifier", "new", "--sheet", "x.classifier"]) == 2
    assert "it must end in .html" in capsys.readouterr().err
