"""`metavision sync`: what is sent, in which order, and what is said of the rest."""

import fcntl
import sys
from pathlib import Path

import pytest

from metavision.cli import sync
from metavision.cli.__main__ import main

# Marks what it is given, as wandb does, but for runs named bad.
FAKE = """
import pathlib, sys
assert sys.argv[1] == "sync"
with open("calls", "a") as file:
    file.write(" ".join(pathlib.Path(part).name for part in sys.argv[2:]) + chr(10))
for part in map(pathlib.Path, sys.argv[2:]):
    if "bad" in part.name:
        sys.exit("wandb: ERROR permission denied")
    (part / "run.wandb.synced").touch()
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "fake.py"
    program.write_text(FAKE)
    monkeypatch.setattr(sync, "WANDB", (sys.executable, str(program)))
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)


def offline(run: str, *parts: str) -> None:
    for part in parts:
        folder = Path("outputs") / run / "wandb" / f"offline-run-{part}"
        folder.mkdir(parents=True)
        (folder / "run.wandb").touch()


@pytest.mark.usefixtures("fake")
def test_what_is_sent_is_marked_and_not_sent_again(capsys: pytest.CaptureFixture[str]) -> None:
    offline("a/seed0", "20260102_000000-a", "20260101_000000-a")
    offline("b/seed0", "20260101_000000-bad")
    assert main(["sync"]) == 1
    out = capsys.readouterr().out
    assert "a/seed0: sent" in out and "b/seed0: not sent: ERROR permission denied" in out
    assert Path("calls").read_text().splitlines()[0] == "offline-run-20260101_000000-a offline-run-20260102_000000-a"

    offline("a/seed0", "20260103_000000-a")
    assert main(["sync", "outputs/a"]) == 0
    assert Path("calls").read_text().splitlines()[-1] == "offline-run-20260103_000000-a"
    capsys.readouterr()
    assert main(["sync", "outputs/a"]) == 0
    assert "nothing to send; 1 offline runs were sent before" in capsys.readouterr().out


@pytest.mark.usefixtures("fake")
def test_a_run_that_still_runs_is_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    offline("a/seed0", "20260101_000000-a")
    with Path("outputs/a/seed0/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["sync"]) == 0
    assert "skipped, for it is still running" in capsys.readouterr().out and not Path("calls").exists()


def test_bad_input_is_told_in_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["sync", "nowhere"]) == 2
    assert "there is no folder nowhere" in capsys.readouterr().err
    monkeypatch.setenv("HOME", str(Path.cwd()))
    monkeypatch.setenv("NETRC", str(Path("netrc").absolute()))
    offline("a/seed0", "20260101_000000-a")
    assert main(["sync"]) == 2
    assert "there is no W&B key" in capsys.readouterr().err


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("below", ["", "wandb", "wandb/offline-run-20260101_000000-a"])
def test_a_run_is_found_by_any_of_its_folders(below: str, capsys: pytest.CaptureFixture[str]) -> None:
    offline("a/seed0", "20260101_000000-a")
    assert main(["sync", str(Path("outputs/a/seed0") / below)]) == 0
    assert Path("calls").read_text() == "offline-run-20260101_000000-a\n"
    assert "seed0: sent" in capsys.readouterr().out


@pytest.mark.usefixtures("fake")
def test_a_server_that_does_not_answer_is_waited_for_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slow = tmp_path / "slow.py"
    slow.write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(sync, "WANDB", (sys.executable, str(slow)))
    for run in "abc":
        offline(f"{run}/seed0", f"20260101_000000-{run}")
    assert main(["sync", "--timeout", "0.5"]) == 1
    out = capsys.readouterr().out
    assert out.count("not sent: no end in 0.5 s") == 1 and "2 runs are left" in out
    assert main(["sync", "--timeout", "0"]) == 2


def test_a_wandb_that_does_not_answer_for_its_key_is_not_waited_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "fake.py"
    program.write_text(FAKE)
    monkeypatch.setattr(sync, "WANDB", (sys.executable, str(program)))
    monkeypatch.setattr(sync, "ASK", (sys.executable, "-c", "import time; time.sleep(250)"))
    offline("a/seed0", "20260101_000000-a")
    assert main(["sync", "--timeout", "1"]) == 0
    assert "a/seed0: sent" in capsys.readouterr().out
