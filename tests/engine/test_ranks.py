"""Several processes give the results of one, and end together."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from metavision.cli.__main__ import main
from metavision.cli.launch import launch
from metavision.cli.train import job
from metavision.engine import ranks
from metavision.errors import InputError

ROOT = Path(__file__).parent.parent.parent
SMALL = [
    *("backbone.filters=4", "episode.query=2", "budget.steps=4", "budget.validate_every=4", "budget.log_every=2"),
    *("budget.checkpoint_every=3", "budget.validation_episodes=34", "budget.test_episodes=36", "logger=none"),
    *("engine.threads=1", "device=cpu"),
]
FAULTY = "algo=maml algo.steps=1 algo.test_steps=1 algo._target_=tests.engine.faulty.Faulty references=[]"
# Tasks that divide and do not, too few tasks, a batch of images by batch moments, statistics, clipping, varied sizes,
# steps that come to nothing, and one that is done again with fewer tasks at once in one of the processes.
COMMANDS = {
    "maml": "algo=maml algo.steps=1 algo.test_steps=1 episode.meta_batch=4 references=[untrained] clip=0.1",
    "reptile": "algo=reptile algo.steps=1 algo.test_steps=1 episode.meta_batch=5 references=[] norm=batch",
    "protonet": "algo=protonet episode.meta_batch=2 references=[] episode.sizes=uniform augment=standard",
    "rfs": "algo=rfs batch=20 references=[] augment=standard",
    "skip": f"{FAULTY} engine.on_nan=skip",
    "rollback": f"{FAULTY} engine.on_nan=rollback",
    "memory": f"{FAULTY} +algo.memory=true",
    "simpleshot": "algo=simpleshot batch=8 episode.meta_batch=4 references=[]",
}
# Run by each of several processes: the same commands one after another, in double precision.
WORKER = """
import sys, torch
from metavision.cli.__main__ import main
from metavision.engine import ranks
torch.set_default_dtype(torch.float64)
with ranks.joined("cpu"):
    for line in sys.argv[1:]:
        if code := main(["train", *line.split()]):
            sys.exit(code)
"""


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
@pytest.mark.parametrize("n", [0, 1, 4, 7])
def test_work_is_divided_without_loss(n: int, processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "count", lambda: processes)
    shares, dealt = [], []
    for number in range(processes):
        monkeypatch.setattr(ranks, "number", lambda number=number: number)
        shares.append(ranks.share(n))
        dealt.append(list(ranks.dealt(range(n))))
    assert [i for part in shares for i in part] == list(range(n))
    sizes = [len(part) for part in shares]
    assert sizes == sorted(sizes, reverse=True) and max(sizes) - min(sizes) <= 1
    monkeypatch.setattr(ranks, "gathered", lambda _: dealt)
    assert ranks.collected([]) == list(range(n))


def commands(*names: str) -> list[str]:
    return [" ".join([COMMANDS[name], *SMALL, f"outputs={name}"]) for name in names]


def by_processes(n: int, folder: Path, names: list[str]) -> None:
    """Runs commands in n processes that torchrun starts, below a folder."""
    folder.mkdir()
    (folder / "worker.py").write_text(WORKER)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n}", "worker.py"]
    path = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [*torchrun, *commands(*names)],
        cwd=folder,
        env=os.environ | path,
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("step      0")]
    assert len(told) == len(names), "every line comes once"


def by_one(folder: Path, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    monkeypatch.chdir(folder)
    for line in commands(*names):
        assert main(["train", *line.split()]) == 0


def recorded(outputs: Path) -> dict[str, Any]:
    """All that a run leaves, but for time, memory and origin."""
    (folder,) = outputs.glob("*/seed0")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    result = json.loads((folder / "result.json").read_text())
    tensors = {
        f"{path.stem}/{name}": tensor
        for path in sorted(folder.glob("checkpoints/*.safetensors"))
        for name, tensor in load_file(path).items()
    }
    for part in (*rows, result):
        part.pop("timing", None)
        part.pop("cost", None)
    return {"rows": rows, "result": result, "tensors": tensors, "episodes": dict(np.load(folder / "episodes.npz"))}


def assert_same(found: Any, expected: Any, where: str = "") -> None:
    """Numbers to 1e-10, all else exactly."""
    if isinstance(expected, Mapping):
        assert found.keys() == expected.keys(), where
        for key in expected:
            assert_same(found[key], expected[key], f"{where}/{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for place, value in enumerate(expected):
            assert_same(found[place], value, f"{where}/{place}")
    elif isinstance(expected, np.ndarray) and expected.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10, err_msg=where)
    elif isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(found, expected, where)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-10, abs=1e-10), where
    else:
        assert found == expected, where


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("processes", [2, 3])
def test_a_run_of_several_processes_is_that_of_one(
    processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = list(COMMANDS)
    by_processes(processes, tmp_path / "several", names)
    by_one(tmp_path / "one", names, monkeypatch)
    for name in names:
        several = recorded(tmp_path / "several" / name)
        assert_same(several, recorded(tmp_path / "one" / name), name)
        (origin,) = (tmp_path / "several" / name).glob("*/seed0/provenance.json")
        assert json.loads(origin.read_text())["processes"] == processes
        assert any("lost_steps" in row for row in several["rows"]) == (name in ("skip", "rollback"))
    assert (tmp_path / "several" / "memory-was-short").exists()


def test_devices_share_a_run() -> None:
    line = [*COMMANDS["maml"].split(), *SMALL]
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    assert main(["train", *line, "outputs=one"]) == 0
    assert main(["train", *line, "outputs=two", "engine.devices=2"]) == 0
    assert {one: signal.getsignal(one) for one in before} == before and "METAVISION_WATCHED" not in os.environ
    (one,), (two,) = (list(Path(outputs).glob("*/seed0")) for outputs in ("one", "two"))
    assert one.parent.name == two.parent.name, "how many share it is no part of a run's identity"
    for name in ("last", "best"):
        ours, theirs = (load_file(folder / "checkpoints" / f"{name}.safetensors") for folder in (two, one))
        for key in theirs:
            np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-3, atol=1e-5)  # in single precision


@pytest.mark.slow
@pytest.mark.parametrize("name", ["maml", "protonet"])  # episodes are shared, or the images of a split that is embedded
def test_devices_share_an_evaluation(name: str) -> None:
    assert main(["train", *COMMANDS[name].split(), *SMALL, "outputs=one"]) == 0
    (one,) = Path("one").glob("*/seed0")
    for words in ([], ["engine.devices=2", "rerun=true"]):
        assert main(["evaluate", f"run={one}", "episodes=400", "engine.threads=1", "device=cpu", *words]) == 0
        (found,) = one.glob("evaluations/*/episodes.npz")
        scores = dict(np.load(found))
        found.unlink()
        if not words:
            alone = scores
    assert scores.keys() == alone.keys()
    for key in alone:
        np.testing.assert_array_equal(scores[key], alone[key], key)


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_run_which_goes_on_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*COMMANDS["maml"].split(), *SMALL, "budget.steps=200", "budget.validate_every=100", "budget.log_every=1"]
    command = [sys.executable, "-m", "metavision.cli", "train", *words, "outputs=killed"]
    with Path("told").open("w") as told:
        process = subprocess.Popen([*command, "engine.devices=2"], stdout=told, stderr=told)
        while "step      7" not in Path("told").read_text():
            assert process.poll() is None, Path("told").read_text()
            time.sleep(0.02)
        children = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        assert len(children) == 2
        os.kill(children[1], signal.SIGKILL)
        assert process.wait(timeout=60) == 1
    last = Path("told").read_text().splitlines()[-1]
    assert re.fullmatch(r"metavision: error: process \d of 2 was ended by SIGKILL; the same command goes on .*", last)
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    assert main(["train", *words, "outputs=killed"]) == 0
    assert main(["train", *words, "outputs=whole"]) == 0
    killed, whole = (recorded(Path(outputs)) for outputs in ("killed", "whole"))
    assert [row["step"] for row in killed["rows"]] == [row["step"] for row in whole["rows"]]
    for row, other in zip(killed["rows"][:20], whole["rows"], strict=False):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-3)


@pytest.mark.slow
def test_what_is_wrong_is_said_once(capfd: pytest.CaptureFixture[str]) -> None:
    """By the processes, of which the first to fail speaks for all."""
    assert main(["train", *SMALL, "episode.way=5000", "engine.devices=2"]) == 2
    (line,) = (line for line in capfd.readouterr().err.splitlines() if "packing glyphs" not in line)
    assert line.startswith("metavision: error: 5000-way episodes need")
    assert not list(Path.cwd().rglob("seed*"))


@pytest.mark.slow
def test_processes_that_cannot_reach_each_other_say_why(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nosuch")
    assert main(["train", *SMALL, "engine.devices=2"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("metavision: error: the processes of this run can't be joined: ") and "nosuch" in line


def test_torchrun_starts_no_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metavision.cli.devices.launched", lambda: True)
    with pytest.raises(InputError, match=r"engine\.devices=N is for each job of -m"):
        launch("train", job, ["-m", "seed=0,1"])


def test_more_devices_than_there_are(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert main(["train", *SMALL, "device=cuda", "engine.devices=3"]) == 2
    assert capsys.readouterr().err == "metavision: error: engine.devices is 3, and 2 CUDA devices are here\n"
