"""Sweeps: what each job leaves behind, killed and issued again, on every launcher; searches."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest

from metavision.cli.__main__ import main
from metavision.records import jobs

SMALL = [
    "backbone.filters=4",
    "episode.query=2",
    "references=[]",
    "logger=none",
    "engine.threads=1",
    "budget=smoke",
    "budget.validate_every=10",
    "budget.validation_episodes=6",
    "budget.test_episodes=6",
    "budget.checkpoint_every=5",
]
LR = "optimizer.lr=tag(log, interval(1e-4, 1e-1))"
GRID = ["algo=maml,protonet,fomaml", "episode.shot=1,2", "seed=0,1"]
LAUNCHERS = {
    "basic": [],
    "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "submitit_local": ["hydra/launcher=submitit_local"],
    "ray": ["hydra/launcher=ray", "hydra.launcher.init.num_cpus=2"],
}


def sweep_of(out: str) -> Path:
    """The folder that the command names at its end."""
    return Path(re.findall(r"^sweep: (.*)$", out, re.MULTILINE)[-1])


def test_each_job_leaves_its_outcome(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-m", *SMALL, "budget.steps=2", "episode.way=5,5000", "outputs=here"]) == 2
    out = capsys.readouterr().out
    sweep = sweep_of(out)
    assert not (sweep / "index.html").exists()  # a single result is no comparison
    good, bad = (json.loads((sweep / "jobs" / f"{number}.json").read_text()) for number in (0, 1))
    assert good["exit_code"] == 0 and not good["error"] and "episode.way=5" in good["overrides"]
    assert Path(good["folder"]).is_absolute() and (Path(good["folder"]) / "DONE").is_file()
    assert bad["exit_code"] == 2 and bad["folder"] is None and "5000-way episodes need" in bad["error"]
    assert bad["error"] in " ".join(out.split("failed: ")[1].split())

    # Evaluations are jobs like others.
    assert main(["evaluate", "-m", f"run={good['folder']}", "episodes=2,4", "engine.threads=1"]) == 0
    folders = [Path(str(outcome.folder)) for outcome in jobs.read(sweep_of(capsys.readouterr().out))]
    assert len(folders) == 2 and all(folder.parent.name == "evaluations" for folder in folders)


def test_a_sweep_into_the_same_folder_forgets_the_jobs_of_the_one_before(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "-m", *SMALL, "budget.steps=0", "hydra.sweep.dir=same"]
    Path("same/jobs").mkdir(parents=True)
    Path("same/jobs/notes.json").write_text("{}")
    assert main([*words, "seed=0,1"]) == 0
    assert main([*words, "seed=1"]) == 0
    assert Path("same/jobs/notes.json").is_file()
    (outcome,) = jobs.read(Path("same"))
    assert "seed=1" in outcome.overrides
    assert "this run is finished" in capsys.readouterr().err


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "submitit_slurm"])
def test_a_launcher_that_is_not_installed(
    launcher: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hydra.core.config_store import ConfigStore

    shown = ConfigStore.instance().repo["hydra"]["launcher"]
    monkeypatch.delitem(shown, f"{launcher}.yaml")
    assert main(["train", "-m", f"hydra/launcher={launcher}", "seed=0,1"]) == 2
    error = capsys.readouterr().err
    assert f"hydra/launcher={launcher} needs hydra-" in error and "installed: pip install hydra-" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(("library", "words"), {"ray": "hydra/launcher=ray", "optuna": "hydra/sweeper=optuna"}.items())
def test_a_library_that_is_not_installed(
    library: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("metavision.sweeping.needs.find_spec", lambda name: None)
    assert main(["train", "-m", words, "seed=0,1"]) == 2
    assert f"{words} needs {library}, which is not installed" in capsys.readouterr().err


def killed_halfway(command: list[str], ready: str, count: int) -> None:
    """Runs a command in a session of its own and kills all of it when `count` files are there."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 200
    while len(list(Path("outputs").glob(ready))) < count:
        assert process.poll() is None, "the command ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    kill_workers(process.pid)
    process.wait()


def kill_workers(session: int) -> None:
    """Kills a process, all below it, and those of its session."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            name_and_rest = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(status.parent.name)] = (int(name_and_rest[1]), int(name_and_rest[3]))
    doomed = {session}
    while more := {pid for pid, (parent, group) in parents.items() if parent in doomed or group in doomed} - doomed:
        doomed |= more
    for pid in doomed:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


@pytest.mark.parametrize(
    "launcher", [pytest.param(name, marks=pytest.mark.slow) if name != "basic" else name for name in LAUNCHERS]
)
def test_killed_and_issued_again_only_the_unfinished_run(launcher: str) -> None:
    fast = launcher == "basic"
    grid = ["algo=maml,protonet", "seed=0,1"] if fast else GRID
    steps = "budget.steps=6" if fast else "budget.steps=20"
    command = [sys.executable, "-m", "metavision.cli", "train", "-m", *LAUNCHERS[launcher], *SMALL, steps, *grid]
    total, half = (4, 2) if fast else (12, 5)
    killed_halfway(command, "*/seed*/DONE", half)
    before = {path: path.stat().st_mtime_ns for path in Path("outputs").glob("*/seed*/DONE")}
    assert half <= len(before) < total

    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr[-2000:]
    after = {path: path.stat().st_mtime_ns for path in Path("outputs").glob("*/seed*/DONE")}
    assert len(after) == total and before.items() <= after.items()
    sweep = sweep_of(again.stdout)
    outcomes = jobs.read(sweep)
    assert len(outcomes) == total and not any(outcome.exit_code for outcome in outcomes)
    assert {str(path.parent.absolute()) for path in after} == {outcome.folder for outcome in outcomes}
    table = again.stdout.split("all of them")[1]
    assert all(path.parent.parent.name in table for path in after)
    beside = {path.name for path in Path.cwd().iterdir()}
    assert (sweep / "index.html").is_file() and f"page: {sweep / 'index.html'}" in again.stdout
    assert beside == {"outputs"}, "a launcher's own files lie below the sweep's folder"


def study(storage: Path) -> optuna.Study:
    (name,) = optuna.get_all_study_names(f"sqlite:///{storage}")
    return optuna.load_study(study_name=name, storage=f"sqlite:///{storage}")


def database() -> Path:
    (path,) = Path("outputs/searches").glob("*.db")
    return path


def search(trials: int, *words: str) -> int:
    own = ["hydra/sweeper=optuna", f"hydra.sweeper.n_trials={trials}", "budget.steps=0"]
    return main(["train", "-m", *SMALL, *own, *words])


def test_a_search_goes_on_to_its_number_of_trials_in_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert search(2, LR) == 0
    begun = study(database())
    begun.ask(begun.trials[0].distributions)  # as a kill leaves it
    (left,) = [trial for trial in begun.trials if trial.state.name == "RUNNING"]
    capsys.readouterr()
    assert search(4, LR, "hydra.sweeper.n_jobs=2") == 0
    done = study(database()).trials
    assert [trial.state.name for trial in done] == ["COMPLETE"] * 4
    assert done[left.number].params == left.params
    assert len({trial.params["optimizer.lr"] for trial in done}) == 4, "no draw is repeated"

    # What it goes by is the validation of the runs, and the best trial's command is that of its run.
    out = capsys.readouterr().out
    command = shlex.split(out.split("best: metavision ")[1].splitlines()[0])
    assert main(command) == 0
    shown = capsys.readouterr()
    assert "this run is finished" in shown.err
    folder = Path(shown.out.split("record: ")[1].strip())
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert study(database()).best_value == max(row["accuracy"] for row in rows if row["split"] == "val")
    assert len(jobs.read(sweep_of(out))) == 2


def test_trials_that_a_kill_left_are_begun_again_however_few_run_at_once() -> None:
    assert search(1, LR) == 0
    begun = study(database())
    for _ in range(5):
        begun.ask(begun.trials[0].distributions)  # as a kill leaves those of n_jobs=5
    assert search(6, LR) == 0
    assert [trial.state.name for trial in study(database()).trials] == ["COMPLETE"] * 6


def test_a_failed_trial_ends_no_search_and_seeds_are_averaged(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["episode.way=choice(5,5000)", "seed=0,1", "hydra.sweeper.sampler=random"]
    assert search(5, *words) == 2
    trials = study(database()).trials
    assert {trial.state.name for trial in trials} == {"COMPLETE", "FAIL"}
    assert all((trial.state.name == "FAIL") == (trial.params["episode.way"] == "5000") for trial in trials)
    values = []
    for path in Path("outputs").glob("*/seed*/metrics.jsonl"):
        values += [json.loads(path.read_text().splitlines()[0])["accuracy"]]
    assert len(values) == 2 and study(database()).best_value == pytest.approx(sum(values) / 2)
    assert "failed: " in capsys.readouterr().out


def test_errors_are_minimised() -> None:
    words = [word for word in SMALL if not word.startswith("backbone")]
    words += ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=1", "budget.steps=0"]
    assert main(["train", "-m", *words, "algo=maml", "data=sinusoid", "algo.steps=range(1,4)"]) == 0
    assert study(database()).direction.name == "MINIMIZE"


@pytest.mark.parametrize(
    ("word", "message"),
    {
        "hydra.sweeper.metric=test": "a search goes by validation",
        "seed=interval(0,9)": "seed can't be searched for",
        "algo.steps=3": "a search needs something to vary",
        "hydra.sweeper.n_trials=0": "must be at least 1",
        "hydra.sweeper.sampler=tpo": "did you mean tpe?",
        "optimizer.lrr=interval(0,1)": "optimizer has no option lrr; did you mean lr?",
        "optimizer.lr=tag(log, interval(0,1))": "optimizer.lr can't be searched for",
        "algo.steps=choice(a,b)": "algo.steps is 'a', of type str",
        "hydra.sweeper.storage=nothing://x": "can't be kept in nothing://x",
    }.items(),
)
def test_a_search_that_makes_no_sense(word: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    vary = [] if word.startswith(("algo.steps", "seed", "optimizer")) else [LR]
    assert main(["train", "-m", "hydra/sweeper=optuna", "algo=maml", *vary, word]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(Path().glob("outputs/*/seed*"))


@pytest.mark.slow
def test_a_search_killed_twice_has_its_trials_in_all() -> None:
    own = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=20", "budget.steps=10"]
    command = [sys.executable, "-m", "metavision.cli", "train", "-m", *own, *SMALL, LR]
    for count in (5, 12):
        killed_halfway(command, "*/seed*/metrics.jsonl", count)
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr[-2000:]
    assert [trial.state.name for trial in study(database()).trials] == ["COMPLETE"] * 20
    assert len(list(Path("outputs").glob("*/seed*/DONE"))) == 20


def test_a_page_that_can_not_be_made_fails_no_sweep(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("metavision.comparison.report.write", broken)
    assert main(["train", "-m", *SMALL, "budget.steps=0", "seed=0,1"]) == 0
    said = capsys.readouterr()
    assert "no page of this sweep: OSError: no space left" in said.err and "all of them" in said.out
