"""Tables fit into 80 columns and hold what was found; the chart is a picture; bad input is one line."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from metavision.bench import chart, cost, tables, turns
from metavision.bench.contenders import OURS
from metavision.bench.turns import FIRST, SAME_ALLOCATOR, Row
from metavision.bench.work import TRAIN
from metavision.cli.__main__ import main


def row(name: str, ratio: float) -> dict[str, Any]:
    def peer(times: float) -> dict[str, Any]:
        return {
            "seconds": 2.5 * times, "cpu": 2.5 * times, "wall": 3.0 * times, "peak": 1234 * 2**20,
            "difference": 1e-14, "ratio": times, "quartiles": [0.97 * times, 1.02 * times],
        }  # fmt: skip

    ours = {"seconds": 2.5, "cpu": 2.5, "wall": 3.0, "peak": 617 * 2**20}
    peers = {FIRST: peer(ratio), "higher": peer(ratio * 1.1), "TorchOpt": peer(0.5), SAME_ALLOCATOR: peer(ratio)}
    found: dict[str, Any] = {"work": name, "tasks": 2, "contenders": {OURS: ours, **peers}}
    missing = {"easyfsl": "easyfsl is not installed (no module)"}
    return {**found, "missing": missing, "flops": 2e12, "bytes": 3, "reached": 0.456}


ROWS = [row(work.name, 1 + i / 2) for i, work in enumerate(TRAIN)]


def printed(*what: Any) -> list[str]:
    console = Console(width=80, color_system=None)
    with console.capture() as captured:
        for one in what:
            console.print(one)
    return captured.get().splitlines()


def test_tables_are_whole_in_80_columns() -> None:
    about_time, fast, about_memory, large, short = (printed(part) for part in tables.turns(ROWS))
    assert len(about_time) == len(about_memory) == 1 and short == [f"l2l: {FIRST}; l2l*: {SAME_ALLOCATOR}"]
    assert len(fast) == len(large) == len(ROWS) + 1  # a line each: nothing is folded
    assert "…" not in "".join(fast + large)
    assert fast[1].split() == [*TRAIN[0].name.split(), "1250.0", "1.00", "1.10", "0.50", "1.00", "0.97–1.02"]
    assert large[1].split() == [*TRAIN[0].name.split(), "617", *4 * ["1234"], "1000.00", "46"]


def test_a_reason_that_holds_for_all_is_said_once() -> None:
    assert tables.unmeasured(ROWS) == ["not measured: easyfsl is not installed (no module)"]
    some = [{**ROWS[0], "missing": {"higher": "its result differs by 0.1 of ours"}}, {**ROWS[1], "missing": {}}]
    assert tables.unmeasured(some) == [f"not measured: higher: its result differs by 0.1 of ours ({ROWS[0]['work']})"]


def test_a_contenders_speed_is_over_learn2learns() -> None:
    assert chart.speed(ROWS[2], OURS) == 2
    assert chart.speed(ROWS[2], FIRST) == 1
    assert chart.speed(ROWS[2], "TorchOpt") == 4


def test_the_chart_is_a_light_picture(tmp_path: Path) -> None:
    path = tmp_path / "new" / "chart.png"
    chart.draw(ROWS, "Speed", "a machine", path)
    pixels = np.asarray(Image.open(path).convert("RGB"))
    assert pixels.shape[1] == 1200 and (pixels[0, 0] == 255).all()
    blue = (pixels == [0x1D, 0x6F, 0xB8]).all(-1)
    assert blue.any(1).sum() > 10 * len(ROWS)  # rows of pixels that cross a bar of ours


def test_a_figure_behind_far_quartiles_is_within_the_chart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, _: drawn.append(figure))
    wide = row("far quartiles", 9)
    wide["contenders"][FIRST]["quartiles"][1] = 12.0
    del wide["contenders"]["TorchOpt"]  # the fastest
    chart.draw([wide], "Speed", "a machine", tmp_path / "chart.png")
    (axes,) = drawn[0].axes
    behind = [text.xy[0] for text in axes.texts if text.get_text() == "9.0×"]
    assert behind == [12.0] and behind[0] < axes.get_xlim()[1]


def test_a_report_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(turns, "rows", lambda works, *_: iter(ROWS[: len(works)]))
    monkeypatch.setattr(cost, "ceiling", lambda _: {"flops": 9e10, "bytes": 2e10})
    words = ["--work", "anil", "--json", "a/train.json", "--chart", "a/train.png", "--rounds", "3"]
    assert main(["bench", "train", *words]) == 0
    report = json.loads(Path("a/train.json").read_text())
    assert report["rows"] == ROWS[:1] and report["rounds"] == 3 and report["clock"] == "cpu"
    assert report["hardware"] and report["origin"]["packages"]["torch"]
    assert Path("a/train.png").stat().st_size > 1000
    said = capsys.readouterr().out
    assert "90 GFLOP/s" in said and "not measured: easyfsl" in said


def test_what_was_measured_before_a_command_is_cut_off_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*_: object) -> Iterator[Row]:
        yield ROWS[0]
        raise KeyboardInterrupt

    monkeypatch.setattr(turns, "rows", cut)
    monkeypatch.setattr(cost, "ceiling", lambda _: {"flops": 9e10, "bytes": 2e10})
    assert main(["bench", "train", "--work", "anil", "--json", "train.json", "--chart", "train.png"]) == 130
    assert json.loads(Path("train.json").read_text())["rows"] == ROWS[:1]
    assert Path("train.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["train", "--work", "nothing"], "no work has nothing in its name"),
        (["train", "--rounds", "0"], "--rounds is 0; at least 1 is needed"),
        (["train", "--tasks", "0"], "--tasks is 0; at least 1 is needed"),
        (["adapt", "--threads", "-1"], "--threads is -1; at least 1 is needed"),
        (["startup", "--rounds", "0"], "--rounds is 0; at least 1 is needed"),
        (["train", "--chart", "a.xyz"], "--chart is a.xyz; a name that ends in .png is needed"),
        (["train", "--chart", "file/a.png"], "file/a.png can't be written: "),
        (["evaluate", "--run", "nowhere", "--episodes", "0"], "--episodes is 0; at least 1 is needed"),
        (["adapt", "--chart", "a.png"], "unrecognized arguments: --chart a.png"),
    ],
)
def test_bad_input_is_one_line(words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert main(["bench", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line


def test_the_page_has_the_memory_of_the_stored_run() -> None:
    root = Path(__file__).parents[2]
    stored = {
        row["work"]: row["contenders"] for row in json.loads((root / "benchmarks/train.json").read_text())["rows"]
    }
    table = re.findall(r"^\| (.+) \| (\d+) \| (\d+) \|$", (root / "docs/benchmarks.md").read_text(), re.MULTILINE)
    assert len(table) >= 5
    for work, ours, theirs in table:
        peaks = (stored[work][name]["peak"] / 2**20 for name in ("metavision", "learn2learn"))
        assert [round(peak) for peak in peaks] == [int(ours), int(theirs)], work
