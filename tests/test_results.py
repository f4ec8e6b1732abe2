"""RESULTS.md is what its generator makes of the experiments and the stored runs, and storing a run tells no place."""

import json
import shutil
from pathlib import Path

import pytest

from metavision.cli.__main__ import main
from metavision.errors import InputError
from metavision.records.run import Run
from tests.cli.test_runs import SMALL
from tests.scripts import script

results, store = script("results"), script("store")
STORED = results.RUNS / "maml-omniglot-6e9fe01e"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """One stored run, to be changed."""
    shutil.copytree(STORED, tmp_path / "runs" / STORED.name)
    return tmp_path / "runs"


def rows(runs: Path, which: str) -> list[list[str]]:
    """The cells of the rows that have a text."""
    lines = results.page(results.EXPERIMENTS, runs).splitlines()
    return [line.strip("| ").split(" | ") for line in lines if line.startswith("| ") and which in line]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_page_is_what_the_generator_makes() -> None:
    made = results.page(results.EXPERIMENTS, results.RUNS)
    assert results.PAGE.read_text(encoding="utf-8") == made, (
        "RESULTS.md is not of these files; `make results` writes it"
    )


def test_every_experiment_has_a_row_and_one_without_a_run_says_so(tmp_path: Path) -> None:
    files = list(results.EXPERIMENTS.glob("*.yaml"))
    without = rows(tmp_path / "nowhere", results.NONE)
    assert len(without) == len(files)
    for path in files:
        (row,) = (cells for cells in without if f"(conf/experiment/{path.name})" in cells[0])
        assert row[3] == results.NONE and f"metavision train experiment={path.stem} budget=full" in row[-1]


def test_figures_are_printed_as_in_print() -> None:
    (row,) = rows(results.RUNS, "(conf/experiment/maml-miniimagenet-5w1s.yaml)")
    assert row[2].startswith("48.70 ± 1.84<br>[Finn et al., 2017](https://")
    (row,) = rows(results.RUNS, "(conf/experiment/r2d2-omniglot-5w1s-conv512.yaml)")
    assert row[2].startswith("98.6 †<br>")


def test_a_run_is_found_by_its_settings(runs: Path) -> None:
    (row,) = rows(runs, "(conf/experiment/maml-omniglot-5w1s.yaml)")
    assert row[3] == "96.64 ± 0.39<br>over episodes<br>2.06 below<br>other settings: `data.split`, `episode.meta_batch`"
    assert row[-1] == "`metavision train algo=maml data=omniglot budget=short logger=none engine.threads=1`"
    assert "short: 4000 of 60000 steps" in row[6] and "batch (transductive)" in row[5]

    seed = runs / STORED.name / "seed0"
    edit(seed / "config.yaml", "filters: 64", "filters: 32")
    (row,) = rows(runs, "(conf/experiment/maml-omniglot-5w1s.yaml)")
    assert row[3].endswith("<br>other settings: `backbone.filters`, `data.split`, `episode.meta_batch`")

    # What the run alone was given, by + on the command line: what is not the default.
    edit(seed / "config.yaml", "  first_order: false\n", "  first_order: false\n  test_lr: 0.1\n")
    edit(seed / "config.yaml", "  first_order: false\n", "  first_order: false\n  moves: all\n")
    (row,) = rows(runs, "(conf/experiment/maml-omniglot-5w1s.yaml)")
    assert "`algo.test_lr`, `backbone.filters`" in row[3] and "algo.moves" not in row[3]
    edit(seed / "config.yaml", "  test_lr: 0.1\n", "")

    # What the run's code had not: as it is by default, and otherwise.
    edit(seed / "config.yaml", "  first_order: false\n", "")
    edit(seed / "config.yaml", "  downsample: stride\n", "")
    (row,) = rows(runs, "(conf/experiment/maml-omniglot-5w1s.yaml)")
    others = "`backbone.downsample`, `backbone.filters`, `data.split`, `episode.meta_batch`"
    assert row[3].endswith(f"<br>other settings: {others}")

    # Evaluations of the same weights on the same episodes.
    result = json.loads((seed / "result.json").read_text())
    for name, asked, more in (
        ("a", {"norm": "each"}, {"transductive": False, "accuracy": {**result["accuracy"], "mean": 0.9}}),
        ("a again", {"norm": "each"}, {"transductive": False, "accuracy": {**result["accuracy"], "mean": 0.9}}),
        ("of fewer", {"norm": "support"}, {"episodes": {**result["episodes"], "n": 4}}),
        ("b", {"norm": "running"}, {"episodes_hash": "others"}),
        ("c", {"checkpoint": "mine", "norm": "running"}, {}),
        ("d", {}, {}),
    ):
        (seed / "evaluations" / name).mkdir(parents=True)
        text = json.dumps({**result, "asked": asked, **more})
        (seed / "evaluations" / name / "result.json").write_text(text)
    (row,) = rows(runs, "(conf/experiment/maml-omniglot-5w1s.yaml)")
    assert row[3].count("metavision evaluate") == 1
    assert "<br>by `metavision evaluate run=RUN norm=each`: 90.00 ± 0.39 (inductive)<br>" in row[3]

    edit(seed / "result.json", '"shot": 1', '"shot": 3')
    (row,) = rows(runs, "maml, omniglot, 5-way 3-shot")
    assert row[2] == "" and row[3].startswith("96.64")
    assert results.page(results.EXPERIMENTS, runs).index("## Other runs") > 0


def test_of_several_seeds_the_interval_is_over_seeds(runs: Path) -> None:
    first, second = (runs / STORED.name / f"seed{k}" for k in (0, 1))
    shutil.copytree(first, second)
    result = json.loads((first / "result.json").read_text())
    for folder, seed, mean in ((first, 0, 0.95), (second, 1, 0.97)):
        changed = {**result, "seed": seed, "accuracy": {**result["accuracy"], "mean": mean}}
        (folder / "result.json").write_text(json.dumps(changed))
    for name in "ab":  # two evaluations of one seed are not two seeds
        (first / "evaluations" / name).mkdir(parents=True)
        (first / "evaluations" / name / "result.json").write_text(json.dumps({**result, "asked": {"norm": "each"}}))
    (row,) = rows(runs, "(conf/experiment/maml-omniglot-5w1s.yaml)")
    assert "metavision evaluate" not in row[3]
    assert row[3].startswith(
        "96.00 ± 12.71<br>over 2 training seeds<br>2.70 below"
    )  # t of one degree of freedom, 12.706, times 1 / sqrt(1)
    assert row[6].startswith("2 seeds: 0, 1") and "train -m algo=maml" in row[-1] and row[-1].endswith("seed=0,1`")

    edit(second / "result.json", result["split_hash"], "0" * 16)
    with pytest.raises(InputError, match="tested on different episodes"):
        results.page(results.EXPERIMENTS, runs)
    (second / "metrics.jsonl").unlink()
    with pytest.raises(InputError, match=r"seed1 lacks metrics\.jsonl"):
        results.page(results.EXPERIMENTS, runs)


def test_a_run_is_stored_whole_and_without_places(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = tmp_path / "a place"
    start = here / "protonet-glyphs-00000000" / "seed0"
    assert main(["train", *SMALL, "logger=none", f"outputs='{here}'", "budget.steps=2"]) == 0
    (folder,) = here.glob("*/seed0")
    run, kept = Run(folder), tmp_path / "runs"
    edit(folder / "config.yaml", "init: null", f"init: {start}")
    with (folder / "overrides.txt").open("a") as file:
        file.write(f"init='{start}'\n")

    assert main(["evaluate", f"run={folder}", "norm=each", "episodes=4", "engine.threads=1"]) == 0

    origin = {**run.read("provenance.json"), "platform": "Linux-6.1.2-of-here-x86_64-with-glibc2.36"}
    for git, message in ((None, "was not run from a checkout"), ({"commit": "c", "dirty": True}, "in no commit")):
        run.write("provenance.json", {**origin, "git": git})
        with pytest.raises(InputError, match=message):
            store.store(run, kept, dirty=False)
    run.write("provenance.json", {**origin, "git": {"commit": "c", "dirty": False}})
    (made,) = (path.parent for path in folder.glob("evaluations/*/result.json"))
    Run(made).write("result.json", {**Run(made).read("result.json"), "git": {"commit": "c", "dirty": False}})
    target = store.store(run, kept, dirty=False)

    assert target == kept / folder.parent.name / "seed0"
    assert {path.name for path in target.iterdir()} == {*store.KEPT, "episodes.npz", "evaluations"}
    (evaluation,) = target.glob("evaluations/*/result.json")
    assert json.loads(evaluation.read_text())["asked"] == {"norm": "each"}
    for path in (*target.glob("*.*"), evaluation):
        assert str(tmp_path).encode() not in path.read_bytes()
    assert "init=protonet-glyphs-00000000/seed0" in (target / "overrides.txt").read_text().splitlines()
    stored = Run(target).read("provenance.json")
    assert stored["platform"] == "Linux-x86_64-with-glibc2.36" and "outputs" not in stored["command"]
    (row,) = rows(kept, "maml, glyphs, 5-way 1-shot")
    assert "metavision train algo=maml backbone.filters=4" in row[-1]

    with pytest.raises(InputError, match="is there already"):
        store.store(run, kept, dirty=False)

    assert main(["evaluate", f"run={folder}", "norm=running", "episodes=4", "engine.threads=1"]) == 0
    (later,) = (path.parent for path in folder.glob("evaluations/*/result.json") if path.parent != made)
    told = Run(later).read("result.json")
    Run(later).write("result.json", json.dumps({**told, "git": {"commit": "c", "dirty": True}}))
    with pytest.raises(InputError, match=rf"{later.name} was run with changes that are in no commit"):
        store.store(run, kept, dirty=False)
    Run(later).write("result.json", json.dumps({**told, "git": {"commit": "c", "dirty": False}}))
    store.store(run, kept, dirty=False)
    assert {path.parent.name for path in target.glob("evaluations/*/result.json")} == {made.name, later.name}
    (folder / "DONE").unlink()
    with pytest.raises(InputError, match="is no finished run"):
        store.store(run, kept, dirty=True)
    capsys.readouterr()
