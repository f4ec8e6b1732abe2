"""`metavision compare` on runs made by hand, whose truth is known."""

import csv
import errno
import itertools
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from metavision.cli.__main__ import main
from metavision.comparison.entries import found
from metavision.comparison.figures import against, by_class, parallel
from metavision.comparison.groups import grouped
from metavision.comparison.pairs import paired
from metavision.comparison.view import View
from metavision.records import jobs
from metavision.records.jobs import Outcome

CLASSES = ("cat", "dog", "owl & <b>co</b>", "pig", "ray", "yak")
N, WAY, QUERY = 400, 3, 10


def run(
    name: str, seed: int = 0, *, level: float = 0.7, rng: int = 0, done: bool = True, lr: float = 0.1, **episodes: Any
) -> Path:
    """A finished run, right with a chance that the episodes share; `episodes` change what it was scored on."""
    folder = Path("outputs") / name / f"seed{seed}"
    folder.mkdir(parents=True)
    shared = np.random.default_rng(99)
    classes = shared.random((N, len(CLASSES))).argsort(1)[:, :WAY]
    chance = np.clip(level + 0.1 * shared.normal(size=(N, 1)), 0.05, 0.95)
    own = np.random.default_rng([rng, seed])
    right = own.binomial(QUERY, np.broadcast_to(chance, (N, WAY)))
    counts = np.zeros((N, WAY, WAY), np.uint16)
    for label in range(WAY):
        counts[:, label, label] = right[:, label]
        counts[:, label, (label + 1) % WAY] = QUERY - right[:, label]
    accuracy = right.sum(1) / (WAY * QUERY)
    bins = np.zeros((N, 15, 3), np.float32)
    bins[:, 10] = np.stack([np.full(N, WAY * QUERY), np.full(N, 0.7 * WAY * QUERY), right.sum(1)], 1)
    arrays = {"trained": accuracy, "loss": 1 - accuracy, "confusion": counts, "bins": bins, "classes": classes}
    n = episodes.get("sizes", {}).get("n", N)
    arrays = {key: value[:n] for key, value in {**arrays, "brier": 1 - accuracy}.items()}
    np.savez(folder / "episodes.npz", names=np.array(CLASSES), **arrays)
    about = {
        "data": "made",
        "split": "test",
        "split_hash": "abcd",
        "episodes_hash": "1234",
        "composition": "",
    } | episodes
    result = {
        "metric": "accuracy",
        "name": f"{name}/seed{seed}",
        "seed": seed,
        "accuracy": {"mean": accuracy.mean(), "half_width": 0.01, "n": N, "resampled": "episodes"},
        "calibration": {"ece": {"mean": 0.02, "low": 0.01, "high": 0.03}},
        "over_classes": {},
        "episodes": {"way": WAY, "shot": 1, "query": QUERY, "n": N, "seed": 0, **episodes.pop("sizes", {})},
        "normalisation": "running",
        "transductive": False,
        "track": "strict",
        "cost": {"adapt_ms": 1.0 + level, "predict_ms": 2.0, "memory": 2**20},
        **about,
    }
    result["episodes"] |= about.pop("sizes", {})
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "config.yaml").write_text(yaml.safe_dump({"algo": {"lr": lr, "steps": 5}, "seed": seed, "outputs": "x"}))
    (folder / "overrides.txt").write_text(f"algo={name.partition('-')[0]}\nseed={seed}\n")
    (folder / "provenance.json").write_text(json.dumps({"code": "c0de", "device": "cpu"}))
    rows = [
        {
            "step": step,
            "split": split,
            "loss": 1 / (1 + step),
            "accuracy": 0.3 + step / 1000,
            "timing": {"seconds": step},
        }
        for step in (0, 50, 100)
        for split in ("train", "val")
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if done:
        (folder / "DONE").write_text("")
    return folder


def evaluated(run: Path, name: str, asked: dict[str, Any], **about: Any) -> Path:
    """An evaluation of a run: its own test again, with something else in the record."""
    folder = run / "evaluations" / name
    folder.mkdir(parents=True)
    for file in ("episodes.npz", "DONE"):
        shutil.copy(run / file, folder)
    result = json.loads((run / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps({**result, "asked": asked, **about}))
    return folder


def of_job(folder: Path) -> Outcome:
    return Outcome([], str(folder.absolute()), 0, "")


def view(*places: Path, by: str = "", metric: str | None = None) -> View:
    return View(tuple(grouped(found([str(p) for p in places]), [key for key in by.split(",") if key], metric)))


def test_seeds_of_a_setting_are_one_group_and_the_better_method_is_said_to_be_better() -> None:
    for seed in (0, 1, 2):
        run("a-made-1", seed, level=0.75, rng=1)
        run("b-made-2", seed, level=0.65, rng=2, lr=0.2)
    v = view(Path("outputs"))
    assert [(g.label, len(g.entries)) for g in v.groups] == [("a-made", 3), ("b-made", 3)]
    (pair,) = v.pairs
    assert pair.found
    d = v.groups[0].values.mean() - v.groups[1].values.mean()
    assert pair.found.estimate.mean == pytest.approx(d) and pair.verdict == "better"
    assert pair.found.estimate.resampled == "seeds and episodes"
    assert v.headline().startswith("a-made is better than b-made by")
    assert v.differing == {"algo.lr": ["0.1", "0.2"]}


def test_runs_that_differ_by_chance_alone_are_not_told_apart() -> None:
    v = view(run("a-made-1", 0, rng=1), run("a-made-1", 1, rng=2), by="seed")
    (pair,) = v.pairs
    assert pair.verdict == "not distinguished" and pair.p > 0.05
    assert pair.found and pair.found.estimate.resampled == "episodes, paired"
    assert "not distinguished at 400 episodes; ± half a point would take" in v.lines()[0]


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"split_hash": "ffff", "episodes_hash": "5678"}, "other images of the split (abcd and ffff)"),
        ({"episodes_hash": "5678", "sizes": {"seed": 7}}, "other seed (0 and 7)"),
        ({"episodes_hash": "5678", "sizes": {"shot": 5}}, "other shot (1 and 5)"),
        ({"episodes_hash": "5678", "data": "omniglot"}, "other data (made test and omniglot test)"),
        ({"episodes_hash": "5678"}, "other list of episodes (1234 and 5678)"),
        ({"sizes": {"n": 100}}, "other number of episodes (400 and 100)"),
    ],
)
def test_unlike_episodes_are_refused_with_the_reason(
    other: dict[str, Any], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    places = run("a-made-1", level=0.8), run("b-made-2", level=0.6, **other)
    v = view(*places)
    (pair,) = v.pairs
    assert pair.found is None and pair.verdict == "not paired" and pair.why == why
    assert main(["compare", *map(str, places)]) == 0
    out = capsys.readouterr().out
    assert f"not paired, {why.partition(' (')[0]}: AB" in out and "is better" not in out


def test_of_a_metric_that_is_better_when_small_the_smaller_is_better() -> None:
    v = view(run("a-made-1", level=0.8), run("b-made-2", level=0.6), metric="loss")
    assert v.pairs[0].found and v.pairs[0].found.estimate.mean < 0 and v.pairs[0].verdict == "better"
    assert v.order == [0, 1]


def test_what_has_no_finite_mean_is_last() -> None:
    folders = [run(f"{name}-made-{name}", level=level) for name, level in zip("abc", (0.6, 0.7, 0.8), strict=True)]
    for folder, lost in zip(folders, (np.inf, np.nan, 0), strict=True):
        arrays = dict(np.load(folder / "episodes.npz"))
        arrays["loss"][0] += lost
        np.savez(folder / "episodes.npz", **arrays)
    assert view(*folders, metric="loss").order[0] == 2
    assert view(*reversed(folders), metric="loss").order[0] == 0


def test_a_network_that_was_scored_twice_is_no_second_seed() -> None:
    place = run("a-made-1")
    for identity in ("aaaa", "bbbb"):
        evaluation = place / "evaluations" / identity
        evaluation.mkdir(parents=True)
        for name in ("result.json", "episodes.npz", "DONE"):
            (evaluation / name).write_bytes((place / name).read_bytes())
    (group,) = view(place / "evaluations").groups
    assert len(group.entries) == 1 and group.entries[0].setting == "a-made-1"


def test_many_pairs_are_corrected_together() -> None:
    groups = view(*(run(f"a{i}-made-{i}", rng=i) for i in range(8))).groups
    pairs = paired(groups, higher=True)
    assert len(pairs) == 28
    raw = sorted(pair.found.p for pair in pairs if pair.found)
    assert min(pair.p for pair in pairs) == pytest.approx(min(1.0, 28 * raw[0]))


def test_a_small_difference_counts_only_above_the_least() -> None:
    places = run("a-made-1", level=0.75), run("b-made-2", level=0.65)
    entries = found([str(p) for p in places])
    assert View(tuple(grouped(entries, [], None)), least=0.01).pairs[0].verdict == "better"
    assert View(tuple(grouped(entries, [], None)), least=0.5).pairs[0].verdict == "not distinguished"


class Page(HTMLParser):
    """What a page loads, and whether its elements are closed."""

    VOID = ("meta", "br", "hr", "img", "input", "link")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.titles: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for key, value in attrs if key in ("src", "href", "srcset")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h2", "h3"):
            self.titles.append(data)


def test_the_page_is_whole_and_loads_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        run("a-made-1", seed, level=0.75, rng=1)
    run("b-made-2", level=0.65, rng=2, lr=0.2)
    assert main(["compare", "outputs", "out=page"]) == 0
    text = Path("page/index.html").read_text()
    page = Page()
    page.feed(text)
    assert page.open == [] and page.loads == [] and not re.search(r"https?://|url\(|@import", text)
    assert "owl &amp; &lt;b&gt;co" in text and "<b>co" not in text  # names of classes are text
    shown = " ".join(page.titles)
    for title in ("Results", "Pair by pair", "Validation accuracy", "Training loss", "A against B", "Reliability",
                  "Recall by class", "who is taken for whom", "What a task costs", "What differs"):  # fmt: skip
        assert title in shown
    (first, second) = csv.DictReader(Path("page/table.csv").read_text().splitlines())
    assert first["what"] == "a-made" and first["seeds"] == "0 1" and second["± over"] == "episodes"
    assert Path("page/table.md").read_text().count("\n") == 4
    assert "A is better" in capsys.readouterr().out


def test_a_page_that_a_full_disk_cuts_short_leaves_the_one_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    run("a-made-1")
    assert main(["compare", "outputs", "out=page"]) == 0
    before = {path.name: path.read_bytes() for path in Path("page").iterdir()}
    assert before.keys() == {"index.html", "table.md", "table.csv"}

    def half(path: Path, text: str, **_: Any) -> None:
        path.write_bytes(text.encode()[: len(text) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", half)
        assert main(["compare", "outputs", "out=page"]) == 2
    assert {path.name: path.read_bytes() for path in Path("page").iterdir()} == before


def test_a_figure_on_classes_that_were_trained_on_is_marked_wherever_it_is_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = {"leak": 12, "classes": "new"}, {"classes": "the same as in training, with other images"}, {"leak": 0}
    for name, level, about in zip("abc", (0.8, 0.7, 0.6), known, strict=True):
        run(f"{name}-made-{name}", level=level, **about)
    assert main(["compare", "outputs", "by=algo", "out=page"]) == 0
    table = {row["what"]: row for row in csv.DictReader(Path("page/table.csv").read_text().splitlines())}
    marks = {"a": "strict, 12 classes trained on", "b": "strict, classes as in training", "c": "strict"}
    assert {what: row["track"] for what, row in table.items()} == marks
    said = capsys.readouterr().out
    for mark in marks.values():
        assert all(mark in Path("page", name).read_text() for name in ("index.html", "table.md"))
        assert mark in said
    for line in ("A: 12 classes trained on: no few-shot learning", "B: classes as in training: no few-shot learning"):
        assert line in said and line in Path("page/index.html").read_text()
    assert main(["compare", "outputs/a-made-a", "out=page"]) == 0
    assert "track: strict, 12 classes trained on" in capsys.readouterr().out


def test_a_sweep_is_found_by_its_jobs_and_shows_its_settings() -> None:
    sweep = Path("outputs/multirun/now")
    for i, lr in enumerate((0.001, 0.01, 0.1, 1.0)):
        place = run(f"a-made-{i}", level=0.6 + 0.05 * i, lr=lr)
        (place / "config.yaml").write_text(yaml.safe_dump({"algo": {"lr": lr, "steps": 5 + i % 2}}))
        jobs.write(sweep, i, of_job(place))
    jobs.write(sweep, 4, Outcome([], None, 2, "it failed"))
    run("other-made-9")
    assert main(["compare", str(sweep), "out=page"]) == 0
    text = Path("page/index.html").read_text()
    assert "4 compared on accuracy" in text and "other-made-9" not in text
    assert "Settings and what came of them" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "there is no folder nowhere"),
        (["outputs/a-made-1/seed0", "by=nope"], "a-made-1/seed0 has no nope to compare by"),
        (["outputs/a-made-1/seed0", "by=algo.nope"], "has no algo.nope to compare by"),
        (["outputs/a-made-1/seed0", "metric=f1"], "has no f1 by episode"),
        (["outputs/a-made-1/seed0", "colour=red"], "compare has no option colour; there are by, least, metric, out"),
        (["outputs/a-made-1/seed0", "least=much"], "least=much is no number"),
        (["outputs/b-made-2/seed0"], "is not finished"),
        (["empty"], "there is no finished run below empty"),
        (["outputs/c-made-3/seed0"], "result.json is damaged"),
        (["outputs/d-made-4/seed0"], "episodes.npz is damaged"),
        (["outputs/e-made-5/seed0", "by=algo.lr"], "config.yaml is damaged"),
        (["outputs/f-made-6/seed0"], "result.json has no metric: it is of another version"),
        (["outputs/a-made-1/seed0", "least=nan"], "least=nan must be a number from 0 on"),
        (["outputs/a-made-1/seed0", "metric=before_adaptation"], "has no before_adaptation by episode"),
        (["sweep"], "none of the 1 jobs of sweep has a finished run"),
        (["torn"], "jobs/0.json is damaged"),
    ],
)
def test_bad_input_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    run("a-made-1")
    run("b-made-2", done=False)
    (run("c-made-3") / "result.json").write_text("{")
    (run("d-made-4") / "episodes.npz").write_bytes(b"PK\x03\x04torn")
    (run("e-made-5") / "config.yaml").write_text("[")
    (run("f-made-6") / "result.json").write_text('{"name": "f-made-6/seed0", "accuracy": {}}')
    jobs.write(Path("sweep"), 0, Outcome([], None, 1, "it failed"))
    Path("torn/jobs").mkdir(parents=True)
    Path("torn/jobs/0.json").write_text("")
    Path("empty").mkdir()
    assert main(["compare", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error


def test_settings_of_a_sweep_are_what_its_runs_are_called_by() -> None:
    places = [run(f"a-made-{i}", lr=lr) for i, lr in enumerate((0.1, 0.2))]
    assert [group.label for group in view(*places).groups] == ["a-made lr=0.1", "a-made lr=0.2"]
    assert [group.label for group in view(*places, by="algo.lr").groups] == ["algo.lr=0.1", "algo.lr=0.2"]
    assert view(places[0]).groups[0].label == "a-made-0"
    (places[1] / "config.yaml").write_text(
        yaml.safe_dump({"algo": {"lr": 0.1, "steps": 5}})
    )  # nothing tells them apart
    assert [group.label for group in view(*places).groups] == ["a-made-0", "a-made-1"]


def test_runs_without_an_error_can_be_shown() -> None:
    for name in ("a-made-1", "b-made-2"):
        place = run(name)
        with np.load(place / "episodes.npz") as file:
            arrays = dict(file)
        arrays["trained"] = np.ones(N)
        arrays["confusion"] = np.broadcast_to(QUERY * np.eye(WAY, dtype=np.uint16), (N, WAY, WAY))
        np.savez(place / "episodes.npz", **arrays)
    assert main(["compare", "outputs"]) == 0


def rewritten(place: Path, **arrays: np.ndarray) -> Path:
    """A run with other arrays."""
    with np.load(place / "episodes.npz") as file:
        kept = dict(file)
    np.savez(place / "episodes.npz", **{**kept, **arrays})
    return place


def test_a_class_that_was_met_once_has_no_whisker() -> None:
    classes = np.random.default_rng(0).random((N, len(CLASSES) - 1)).argsort(1)[:, :WAY]
    classes[7, 0] = CLASSES.index("yak")
    (figure,) = by_class(view(rewritten(run("a-made-1"), classes=classes)))
    assert figure.svg.count("<circle") == len(CLASSES) and "nan" not in figure.svg
    assert figure.svg.count("whisker") == len(CLASSES) - 1 and re.search(r"A yak: recall [\d.]+, precision", figure.svg)


def test_settings_that_are_pooled_are_no_sample_of_anything() -> None:
    for seed in (0, 1):
        run("a-made-1", seed, rng=1, lr=0.1)
        run("b-made-2", seed, rng=2, lr=0.1, transductive=True)
        run("a-made-3", seed, rng=3, lr=0.2)
    v = view(Path("outputs"), by="algo.lr")
    pooled = next(row for row in v.rows() if row["what"] == "algo.lr=0.1")
    assert pooled["± over"] == "runs of 2 settings" and pooled["accuracy"].endswith("± —")
    assert pooled["queries"] == "inductive / transductive"
    (pair,) = v.pairs
    assert pair.found and np.isnan(pair.found.estimate.half_width)
    assert pair.verdict == "not tested" and "not tested" in v.lines()[0] and "not tested" in v.headline()


def test_what_was_solved_otherwise_is_a_group_of_its_own_with_a_name_of_its_own() -> None:
    place = run("a-made-1", rng=1)
    others = (
        {"normalisation": "batch"},
        {"asked": {"steps": 3}},
        {"sizes": {"n": 100}},
        {"split": "train", "split_hash": "ef"},
    )
    for i, other in enumerate(others):
        shutil.move(run(f"other-made-{i}", rng=2 + i, **other), place / f"evaluations/{i}")
        path = place / f"evaluations/{i}/result.json"
        path.write_text(path.read_text().replace(f"other-made-{i}", "a-made-1"))
    labels = [group.label for group in view(place, place / "evaluations").groups]
    assert len(set(labels)) == len(labels) == 5
    assert any("train" in label for label in labels)
    assert any("batch" in label for label in labels) and any("steps=3" in label for label in labels)
    assert any("100 episodes" in label for label in labels)


def test_checkpoints_of_a_run_have_lines_of_their_own() -> None:
    place = run("a-made-1")
    for shot, name in itertools.product((1, 5), (None, "last")):
        sizes = {"way": WAY, "shot": shot, "query": QUERY, "n": N, "seed": 0}
        asked = {"checkpoint": name} if name else {}
        evaluated(place, f"{shot}{name}", asked, episodes=sizes, episodes_hash=str(shot))
    v = view(place / "evaluations")
    assert len({group.label for group in v.groups}) == 4
    (figure,) = against(v)
    assert len(figure.key) == 2 and sum("checkpoint=last" in name for _, name in figure.key) == 1


def test_the_best_has_the_first_letter_and_validation_stands_beside_the_test(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for i, level in enumerate((0.5, 0.8, 0.6)):
        run(f"{'abc'[i]}-made-{i}", level=level, rng=i, step=50)
    assert main(["compare", "outputs"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"A +│ b-made", out) and "choose by validation" in out
    assert "validation" in out and "35.00" in out  # 0.3 + 50 / 1000, of the step that was tested


def test_a_sweep_that_was_moved_is_found_with_its_runs() -> None:
    place = run("a-made-1")
    evaluations = [evaluated(place, str(i), {"steps": i}) for i in range(2)]
    jobs.write(Path("outputs/multirun/now"), 0, of_job(place))
    for i, folder in enumerate(evaluations):
        jobs.write(Path("outputs/multirun/later"), i, of_job(folder))
    shutil.move("outputs", "moved")
    (entry,) = found(["moved/multirun/now"])
    assert entry.name == "a-made-1/seed0"
    assert [entry.result["asked"] for entry in found(["moved/multirun/later"])] == [{"steps": 0}, {"steps": 1}]


def test_a_copy_of_a_run_is_no_second_seed() -> None:
    place = run("a-made-1")
    shutil.copytree(place, "elsewhere/first")
    shutil.copytree(run("b-made-2", level=0.6), "elsewhere/second")
    groups = view(place, Path("elsewhere")).groups
    assert [(group.label, len(group.entries)) for group in groups] == [("a-made", 1), ("b-made", 1)]


def test_the_same_settings_with_other_figures_are_told_apart_by_their_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = run("a-made-1", rng=1)
    shutil.move("outputs", "old")
    (Path("old") / "a-made-1" / "seed0" / "provenance.json").write_text('{"code": "01d"}')
    run("a-made-1", rng=2)
    assert main(["compare", "old", str(place)]) == 2
    assert "with other figures; by=code tells" in capsys.readouterr().err
    assert [group.label for group in view(Path("old"), place, by="code").groups] == ["01d", "c0de"]


def test_what_is_found_and_damaged_is_left_out_with_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    run("a-made-1")
    (run("b-made-2") / "result.json").write_text("{")
    assert main(["compare", "outputs"]) == 0
    assert "left out: outputs/b-made-2/seed0/result.json is damaged" in capsys.readouterr().err


def test_of_many_runs_the_terminal_shows_some_pairs_and_the_best_first(capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(20):
        run(f"a{i}-made-{i}", level=0.3 + 0.02 * i, rng=i)
    assert main(["compare", "outputs"]) == 0
    out = capsys.readouterr().out
    assert out.count(", p ") == 15 and "… and 175 more on the page" in out
    assert "a19-made is better than" in out and "of each there is one seed" in out


def test_a_sweep_over_algorithms_has_an_axis_of_them() -> None:
    for i, (algo, lr) in enumerate(itertools.product("ab", (0.1, 0.2))):
        place = run(f"{algo}-made-{i}", lr=lr)
        config = {"algo": {"lr": lr, "_target_": f"x.{algo}"}, "norm": algo}  # which follows from the algorithm
        (place / "config.yaml").write_text(yaml.safe_dump(config))
    v = view(Path("outputs"))
    (figure,) = parallel(v)
    assert ">algorithm and data<" in figure.svg and ">algo.lr<" in figure.svg and ">norm<" not in figure.svg
    assert [group.label for group in v.groups] == ["a-made lr=0.1", "a-made lr=0.2", "b-made lr=0.1", "b-made lr=0.2"]
