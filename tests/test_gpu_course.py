"""`make gpu` on a CPU: parts that fail or take too long stop none after them, and runs go on where they stood."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import torch

from metavision.cli.__main__ import main
from tests.scripts import script

gpu, results = script("gpu"), script("results")
collect, install = script("collect_wheels"), script("install_wheels")
STUBBORN = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"
POLITE = "import time\ntry:\n print('on', flush=True); time.sleep(60)\nexcept KeyboardInterrupt: raise SystemExit(130)"


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(gpu, "WORK", tmp_path / "work")
    (tmp_path / "work" / "logs").mkdir(parents=True)
    return tmp_path / "work"


def course(tmp_path: Path, budget: float, *parts: str) -> gpu.Course:
    env = {**os.environ, "PYTHONPATH": str(gpu.ROOT)}
    return gpu.Course("cpu", budget, tmp_path / "out", tmp_path / "runs", parts, (), sys.executable, env)


@pytest.mark.parametrize("ignored", [False, True], ids=["in front", "in the background"])
def test_a_command_is_interrupted_when_its_time_is_over_and_killed_if_that_does_not_help(
    tmp_path: Path, ignored: bool
) -> None:
    here = course(tmp_path, 25.0)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
    try:
        _interrupted(here)
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupted(here: Any) -> None:
    for code, expected in ((POLITE, 130), (STUBBORN, -9)):
        report = gpu.call(here, "part", [sys.executable, "-c", code], 1.5)
        assert (report.rc, report.cut, report.failed) == (expected, True, False)
    assert gpu.call(here, "part", [sys.executable, "-c", "raise SystemExit(3)"], 30).failed


def test_no_part_stops_those_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = {"tests": "raise SystemExit(1)", "bench-train": POLITE, "bench-data": "", "profile": "import nothing_such"}
    monkeypatch.setattr(gpu.Course, "command", lambda self, part: [sys.executable, "-c", codes[part]])
    here = course(tmp_path, 8.0, *codes)
    reports = list(gpu.follow(here, time.monotonic()))
    assert [report.name for report in reports] == list(codes)
    assert [report.cut for report in reports] == [False, True, False, False]
    assert [report.failed for report in reports] == [True, False, False, True]
    timed = {"rows": [{"work": "MAML", "contenders": {"metavision": {"seconds": 1}, "higher": {"ratio": 2.5}}}]}
    reports[1] = replace(reports[1], found=timed)
    gpu.write(here, {"device": "cpu"}, reports, 8.0)
    gpu.pack(here)
    summary = json.loads((here.out / "summary.json").read_text())
    assert [part["rc"] for part in summary["parts"]] == [report.rc for report in reports]
    text = (here.out / "summary.md").read_text()
    assert all(f"| {name} |" in text for name in codes) and "cut off" in text
    assert "MAML: higher 2.50x" in text
    with tarfile.open(here.out / "results.tar.gz") as archive:
        assert {f"logs/{name}.txt" for name in codes} <= set(archive.getnames())


def test_the_pace_is_that_of_the_last_command_without_its_first_row(tmp_path: Path) -> None:
    folder = tmp_path / "maml-omniglot-12345678" / "seed0"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("algo:\n  steps: 5\nbudget:\n  name: full\n  steps: 60000\n")
    # A first command to step 200; a second from there, 100 steps in 60.1 s to choose kernels, then 100 in 2 s.
    timed = [(100, 50.0), (200, 60.0), (300, 60.1), (400, 62.1), (500, 64.1)]
    lines = [json.dumps({"step": step, "timing": {"seconds": seconds}}) + "\n" for step, seconds in timed]
    (folder / "metrics.jsonl").write_text("".join(lines[:2]))
    before = gpu.rows(tmp_path)
    (folder / "metrics.jsonl").write_text("".join(lines) + '{"step": 500, "timing": {}}\n{"step": 6')
    found = gpu.progress(tmp_path, before)
    assert (found["step"], found["steps"], found["measured_steps"]) == (500, 60000, 200)
    assert found["ms_a_step"] == pytest.approx(20)
    assert found["projected_minutes"] == pytest.approx(20)
    assert found["minutes_to_the_end"] == pytest.approx(59500 * 0.02 / 60, abs=0.01)
    assert gpu.progress(tmp_path, gpu.rows(tmp_path)) == {"step": 500, "steps": 60000}
    assert gpu.progress(tmp_path / "nowhere", gpu.rows(tmp_path / "nowhere")) == {}


def test_tests_that_failed_before_they_were_cut_off_have_failed(
    tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu.Course, "command", lambda *_: [sys.executable, "-c", POLITE])
    for failures, errors in ((0, 0), (1, 0), (0, 2)):
        suite = f'<testsuite tests="9" failures="{failures}" errors="{errors}" skipped="3"/>'
        (work / "tests.xml").write_text(f"<testsuites>{suite}</testsuites>")
        (report,) = gpu.follow(course(tmp_path, 3.0, "tests"), time.monotonic())
        assert report.cut and report.failed is bool(failures + errors)


LONG = """
import sys
sys.path.insert(0, sys.argv[1])
import gpu
from pathlib import Path
gpu.WORK = Path("work").resolve()
part = [sys.executable, "-c", sys.argv[2]]
gpu.Course.command = lambda *_: part
sys.argv[1:] = ["--device", "cpu", "--parts", "profile", "--out", "out", "--runs", "work/runs"]
raise SystemExit(gpu.main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_what_runs_and_brings_the_results_all_the_same(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "work" / "runs" / "maml").mkdir(parents=True)
    part = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    log = tmp_path / "work" / "logs" / "profile.txt"
    command = [sys.executable, "-c", LONG, str(gpu.ROOT / "scripts"), part]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as asked:
        deadline = time.monotonic() + 60
        while not (log.exists() and log.read_text().splitlines()[1:]) and time.monotonic() < deadline:
            time.sleep(0.1)
        asked.send_signal(number)
        _, said = asked.communicate(timeout=60)
    assert asked.returncode == 128 + number and "Traceback" not in said
    with pytest.raises(ProcessLookupError):
        os.kill(int(log.read_text().splitlines()[1]), 0)
    assert (tmp_path / "out" / "results.tar.gz").is_file() and (tmp_path / "out" / "runs.tar.gz").is_file()


def test_an_archive_of_runs_takes_the_place_of_none(tmp_path: Path, work: Path) -> None:
    (tmp_path / "runs" / "maml").mkdir(parents=True)
    (tmp_path / "runs" / "maml" / "steps").write_text("100")
    archive = {"runs": tmp_path / "runs.tar.gz", "logs": tmp_path / "results.tar.gz"}
    for name, path in archive.items():
        with tarfile.open(path, "w:gz") as packed:
            packed.add(tmp_path / "runs", name)
    with pytest.raises(ValueError, match=r"holds no runs/; runs.tar.gz does"):
        gpu.unpacked(str(archive["logs"]))
    assert (gpu.unpacked(str(archive["runs"])) / "maml" / "steps").read_text() == "100"
    (work / "runs" / "maml" / "steps").write_text("200")
    with pytest.raises(ValueError, match="has runs already"):
        gpu.unpacked(str(archive["runs"]))
    assert (work / "runs" / "maml" / "steps").read_text() == "200"


def test_an_archive_that_lies_where_results_do_is_kept(
    tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs" / "maml").mkdir(parents=True)
    with tarfile.open(work / "runs.tar.gz", "w:gz") as packed:
        packed.add(tmp_path / "runs", "runs")
    monkeypatch.setattr(gpu, "follow", lambda *_: iter(()))
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    words = ["--device", "cpu", "--out", str(tmp_path / "out"), "--runs", str(work / "runs.tar.gz")]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *words])
    try:
        assert gpu.main() == 0
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])
    assert (work / "runs.tar.gz").is_file() and (work / "runs" / "maml").is_dir()


def test_pending_are_those_without_a_full_run_and_maml_and_protonet_come_first(tmp_path: Path) -> None:
    found = results.pending(results.EXPERIMENTS, results.RUNS)
    assert [name.partition("-")[0] for name in found[:12]].count("maml") == 6
    assert [name.partition("-")[0] for name in found[:12]].count("protonet") == 6
    assert all("omniglot" in name or "miniimagenet" in name for name in found[:12])
    assert found[:2] == ["maml-omniglot-5w1s", "maml-miniimagenet-5w1s"]
    assert not any(name.startswith("metabaseline") for name in found), "these need another run to start from"
    stored = results.RUNS / "maml-omniglot-6e9fe01e" / "seed0"
    full = tmp_path / "runs" / stored.parent.name / "seed0"
    full.mkdir(parents=True)
    for path in stored.iterdir():
        (full / path.name).write_bytes(path.read_bytes())
    text = (full / "config.yaml").read_text()
    (full / "config.yaml").write_text(text.replace("name: short", "name: full"))
    assert set(found) - set(results.pending(results.EXPERIMENTS, tmp_path / "runs")) == {"maml-omniglot-5w1s"}


def test_wheels_are_of_all_that_is_needed_beside_torch() -> None:
    found = collect.closure([*collect.needs("metavision"), *collect.TESTS], collect.closure(collect.THERE))
    assert {"hydra-core", "omegaconf", "antlr4-python3-runtime", "rich", "pygments", "pytest", "iniconfig"} <= found
    assert not {"torch", "numpy", "pillow", "sympy"} & found
    lines, missing = collect.pins(["hydra-core", "no-such-package"])
    assert lines[0].startswith("hydra-core==1.3") and missing == ["no-such-package"]


def test_only_wheels_of_packages_that_are_not_there_are_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("numpy", "surely_not_there"):
        with ZipFile(tmp_path / f"{name}-9.9-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}.py", "value = 7\n")
            about = f"{name}-9.9.dist-info"
            wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n")
            wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{about}/RECORD", f"{name}.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")
    monkeypatch.setattr(install, "WHEELS", tmp_path)
    assert install.main(str(tmp_path / "packages")) == 0
    assert (tmp_path / "packages" / "surely_not_there.py").is_file()
    assert not (tmp_path / "packages" / "numpy.py").exists()


@pytest.mark.parametrize("words", [["--parts", "tests,nothing"], ["--runs", "nowhere.tar.gz"], ["--budget", "long"]])
def test_what_makes_no_sense_is_refused_in_a_line(words: list[str]) -> None:
    asked = [sys.executable, str(gpu.ROOT / "scripts" / "gpu.py"), *words]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "error: " in done.stderr and "Traceback" not in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_cuda_device_it_says_so_and_runs_nothing() -> None:
    asked = [sys.executable, str(gpu.ROOT / "scripts" / "gpu.py"), "--out", "here"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "--device cpu is a dry run" in done.stderr
    assert not Path("here").exists()


@pytest.mark.slow
def test_the_course_on_a_cpu_goes_on_with_the_runs_that_are_handed_to_it(tmp_path: Path) -> None:
    def command(budget: int, runs: Path) -> dict[str, dict[str, Any]]:
        env = {**os.environ, "OUT": str(tmp_path / "out"), "BUDGET": str(budget), "RUNS": str(runs), "PARTS": "runs"}
        asked = [sys.executable, str(gpu.ROOT / "scripts" / "gpu.py"), "--device", "cpu"]
        done = subprocess.run(asked, env=env, check=False, capture_output=True, text=True, timeout=2 * budget)
        assert done.returncode == 0, done.stdout
        summary = json.loads((tmp_path / "out" / "summary.json").read_text())
        assert summary["seconds"] < budget and summary["machine"]["torch"] == torch.__version__
        return {each["name"]: each for each in summary["runs"]}

    assert main(["data", "prepare", "glyphs"]) == 0
    first = command(60, tmp_path / "runs")
    assert first["protonet-omniglot-5w1s"]["rc"] == 0 and "result" in first["protonet-omniglot-5w1s"]["found"]
    assert first["maml-omniglot-5w1s"]["cut"] and first["maml-omniglot-5w1s"]["found"]["measured_steps"] > 0
    carried = (tmp_path / "out" / "runs.tar.gz").rename(tmp_path / "carried.tar.gz")
    second = command(40, carried)
    assert list(second) == ["maml-omniglot-5w1s"], "the other is finished"
    assert second["maml-omniglot-5w1s"]["found"]["step"] > first["maml-omniglot-5w1s"]["found"]["step"]
