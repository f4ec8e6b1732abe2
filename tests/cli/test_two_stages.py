"""Runs that begin from, or learn from, other runs; and what may not be put together."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from metavision.cli.__main__ import main
from metavision.cli.ancestry import ancestors
from metavision.cli.results import overview, show
from metavision.engine import checkpoint
from metavision.errors import InputError
from tests.cli.test_runs import rows
from tests.conftest import toy_source

SMALL = [
    "train",
    "backbone.filters=4",
    "references=[]",
    "logger=none",
    "engine.threads=1",
    "budget=smoke",
    "budget.steps=4",
    "budget.validation_episodes=4",
    "budget.test_episodes=6",
    "budget.checkpoint_every=2",
    "budget.log_every=1",
    "episode.train.way=5",
    "episode.query=2",
]
Error = Callable[[], str]


@pytest.fixture
def error(capsys: pytest.CaptureFixture[str]) -> Error:
    """The last line of what went to stderr."""
    return lambda: capsys.readouterr().err.strip().splitlines()[-1]


def trained(*words: str, outputs: str = "one") -> Path:
    assert main([*SMALL, f"outputs={outputs}", *words]) == 0
    (folder,) = Path(outputs).glob("*/seed0")
    return folder


def test_the_second_stage_begins_with_the_firsts_backbone_and_a_head_of_its_own() -> None:
    first = trained("algo=baseline")
    second = trained("algo=metabaseline", f"init={first}", "budget.steps=0", outputs="two")
    a, b = (checkpoint.read(checkpoint.find(folder)).meta.params for folder in (first, second))
    assert "classifier.weight" in a and "classifier.weight" not in b and float(b["scale"]) == 10
    for name in b:
        assert name == "scale" or torch.equal(a[name], b[name])


def test_a_teacher_teaches_and_need_not_be_there_at_the_test(error: Error) -> None:
    teacher = trained("algo=rfs")
    student = trained("algo=rfs", f"algo.teacher={teacher}", outputs="two")
    a, b = (checkpoint.read(run / "checkpoints/last.safetensors").meta.params for run in (student, teacher))
    assert any(not torch.equal(a[name], b[name]) for name in a)
    assert main([*SMALL, "algo=rfs", f"algo.teacher={teacher}", "scaling=standard"]) == 2
    assert "was trained with scaling=unit" in error()
    shutil.rmtree(teacher)
    assert main(["evaluate", f"run={student}", "episodes=5", "query=2"]) == 0
    assert main([*SMALL, "algo=rfs", f"algo.teacher={teacher}"]) == 2
    assert "there is nothing at" in error()
    episodic = trained("algo=protonet", outputs="four")
    assert main([*SMALL, "algo=rfs", f"algo.teacher={episodic}"]) == 2
    assert "it has no classifier of all training classes" in error()


def with_classes_of(folder: Path, more: list[str]) -> Path:
    """The run's checkpoint, as if it had been trained on further classes."""
    found = checkpoint.read(checkpoint.find(folder))
    path = Path("other.safetensors")
    checkpoint.save(path, replace(found, about={**found.about, "trained_on": [*found.about["trained_on"], *more]}))
    return path


def test_weights_that_know_the_test_classes_are_refused_and_others_leave_the_track(error: Error) -> None:
    from metavision.data.sources.glyphs import Glyphs

    first = trained("algo=protonet")
    leaky = with_classes_of(first, Glyphs().source("test").class_hashes[:3])
    assert main([*SMALL, "algo=protonet", f"init={leaky}"]) == 2
    assert "was trained on 3 classes of test; a figure would mean nothing" in error()
    foreign = with_classes_of(first, ["of another set"])
    second = trained("algo=protonet", f"init={foreign}", outputs="two")
    about = checkpoint.read(checkpoint.find(second)).about
    assert about["track"] == "external" and "of another set" in about["trained_on"]
    assert checkpoint.read(checkpoint.find(first)).about["track"] == "strict"


def test_of_a_mixture_the_classes_that_all_splits_share_may_be_known_and_no_others() -> None:
    first = trained("algo=protonet")
    digits, birds = replace(toy_source(), name="digits", shared=True), replace(toy_source(), name="birds")
    test = replace(
        toy_source(classes=16),
        keys=(*digits.class_keys, *birds.class_keys),
        partly=digits.known,
    )
    sources = {"train": toy_source(), "val": toy_source(), "test": test}
    config = {"init": str(with_classes_of(first, digits.class_hashes)), "algo": {}, "scaling": "unit"}
    assert len(ancestors(config, sources)) == 1
    with_classes_of(first, [*digits.class_hashes, *birds.class_hashes[:3]])
    with pytest.raises(InputError, match="was trained on 3 classes of test"):
        ancestors(config, sources)


@pytest.mark.parametrize(("algo", "option"), [("protonet", "init"), ("rfs", "algo.teacher")])
def test_a_run_says_that_what_it_began_from_is_another_by_now(
    algo: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = trained(f"algo={algo}")
    words = (f"algo={algo}", f"{option}={first}", "seed=0")
    second = trained(*words, outputs="two")
    result, another = (second / "result.json").read_text(), f"{option}={first} is another by now"
    assert trained(*words, outputs="two") == second and another not in capsys.readouterr().err

    assert main([*SMALL, "outputs=one", f"algo={algo}", "rerun=true"]) == 0
    assert trained(*words, outputs="two") == second and another not in capsys.readouterr().err, "the same once more"

    found = checkpoint.read(checkpoint.find(first))
    moved = {name: t + 0.01 for name, t in found.meta.params.items()}
    checkpoint.save(checkpoint.find(first), replace(found, meta=found.meta._replace(params=moved)))
    assert trained(*words, outputs="two") == second
    assert f"{another} than this run began from; rerun=true runs it afresh" in capsys.readouterr().err
    assert (second / "result.json").read_text() == result

    # Half a run of each would be neither.
    (second / "DONE").unlink()
    assert main([*SMALL, "outputs=two", *words]) == 2
    assert another in capsys.readouterr().err.splitlines()[-1]
    assert main([*SMALL, "outputs=two", *words, "rerun=true"]) == 0
    assert trained(*words, outputs="two") == second and another not in capsys.readouterr().err.splitlines()[-1]


def test_what_begins_elsewhere_is_not_called_untrained(capsys: pytest.CaptureFixture[str]) -> None:
    first = trained("algo=protonet", "references=[untrained]")
    assert "the same, untrained" in capsys.readouterr().out
    second = trained("algo=protonet", f"init={first}", "references=[untrained]", outputs="two")
    said = capsys.readouterr().out
    assert "the same, before training" in said and "untrained" not in said
    one, two = (json.loads((run / "result.json").read_text()) for run in (first, second))
    assert one["init"] is None and two["init"] == str(first)
    overview([one], [""], [])
    assert "minus untrained" in capsys.readouterr().out
    overview([one, two], ["", ""], [])
    assert "minus before training" in capsys.readouterr().out
    del one["init"]  # an older record does not say
    show(one, first)
    assert "the same, before training" in capsys.readouterr().out


def test_an_unfinished_run_is_no_beginning(error: Error) -> None:
    first = trained("algo=protonet")
    (first / "DONE").unlink()
    assert main([*SMALL, "algo=protonet", f"init={first}", "outputs=two"]) == 2
    assert "is not finished; its weights may still change" in error()


@pytest.mark.parametrize("wrong", ["references=[me]", "device=cuda", "init=nowhere"])
def test_what_is_wrong_with_a_rerun_costs_nothing(wrong: str) -> None:
    if wrong == "device=cuda" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    folder = trained("algo=protonet")
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    words = [*SMALL, "outputs=one", "algo=protonet", "rerun=true"]
    assert main([*words, wrong]) == 2
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == kept
    evaluation = folder / "evaluations"
    assert main(["evaluate", f"run={folder}", "episodes=5", "query=2"]) == 0 and evaluation.is_dir()
    assert main(words) == 0
    assert not evaluation.exists() and (folder / "DONE").is_file()


@pytest.mark.parametrize(
    ("run", "other", "message"),
    [
        ("algo=protonet norm=running", "algo=protonet norm=batch", "lacks backbone.norms.0.mean"),
        ("algo=protonet norm=batch", "algo=protonet norm=running", "has backbone.norms.0.mean"),
        ("algo=simpleshot", "algo=baseline", "lacks centre"),
    ],
)
def test_weights_with_other_statistics_are_refused(run: str, other: str, message: str, error: Error) -> None:
    one, two = trained(*run.split()), trained(*other.split(), outputs="two")
    assert main(["evaluate", f"run={one}", f"checkpoint={two}", "episodes=5"]) == 2
    assert message in error()


def test_evaluation_of_another_kind_is_refused(error: Error) -> None:
    small = [word for word in SMALL if not word.startswith(("backbone", "episode.train"))]
    assert main([*small, "algo=maml", "data=sinusoid", "outputs=sines"]) == 0
    (sines,) = Path("sines").glob("*/seed0")
    for words, message in {
        "data=glyphs": "was trained on no images",
        "replacement=false": "makes its tasks itself",
        "data=sinusoid": "which one of data=sinusoid sets",
    }.items():
        assert main(["evaluate", f"run={sines}", words]) == 2
        assert message in error()
    learned = trained("algo=metasgd", "algo.steps=1", outputs="learned")
    assert main(["evaluate", f"run={learned}", "way=3"]) == 2
    assert "has 5 outputs, one for each class of an episode, so way=3 can't be evaluated" in error()
    pretrained = trained("algo=rfs", outputs="pretrained")
    assert main(["evaluate", f"run={pretrained}", "way=3", "shot=2", "episodes=5"]) == 0


def test_unbalanced_queries_of_a_transductive_run(capsys: pytest.CaptureFixture[str]) -> None:
    run = trained("algo=ptmap")
    assert main(["evaluate", f"run={run}", "episodes=5", "query=4", "balance=2"]) == 0
    assert "episodes: balance=2" in capsys.readouterr().out


DROPS = "algo=protonet backbone=conv512 backbone.drop=0.3 ~backbone.filters"


@pytest.mark.parametrize("words", [pytest.param(DROPS, marks=pytest.mark.slow), "algo=rfs"])
def test_a_resumed_run_drops_and_draws_the_same(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from metavision.engine.train import _Trainer

    chosen = [word for word in words.split() if word != "~backbone.filters"]
    settings = [word for word in SMALL if "~" not in words or word != "backbone.filters=4"]
    assert main([*settings, *chosen, "outputs=whole"]) == 0
    advance = _Trainer.advance

    def killed(trainer: _Trainer) -> None:
        if trainer.step == 3:
            raise KeyboardInterrupt
        advance(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(_Trainer, "advance", killed)
        assert main([*settings, *chosen, "outputs=killed"]) == 130
    torch.manual_seed(77)
    assert main([*settings, *chosen, "outputs=killed"]) == 0
    (whole,), (resumed,) = (list(Path(outputs).glob("*/seed0")) for outputs in ("whole", "killed"))
    assert rows(resumed) == rows(whole)
    a, b = (checkpoint.read(folder / "checkpoints" / "last.safetensors").meta for folder in (whole, resumed))
    assert all(torch.equal(a.params[name], b.params[name]) for name in a.params)
