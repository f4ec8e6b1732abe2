"""W&B: what the offline file holds, and servers that refuse or hang."""

import errno
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from metavision.cli.__main__ import main
from metavision.errors import InputError
from metavision.tracking.base import curves
from metavision.tracking.wandb import Wandb, _identity

KEY = "0123456789abcdef0123456789abcdef01234567"
ROWS = [
    {"step": 0, "split": "val", "loss": 1.6, "accuracy": 0.2, "timing": {}},
    {"step": 5, "split": "train", "loss": 1.25, "lr": 0.001, "timing": {"seconds": 2.5}},
    {"step": 5, "split": "val", "loss": 1.0, "accuracy": 0.5, "timing": {}},
]


def records(folder: Path) -> list[dict[str, Any]]:
    """The offline file of a run, read back by wandb's own program."""
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    command = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def history(folder: Path) -> dict[int, dict[str, float]]:
    steps: dict[int, dict[str, float]] = {}
    for record in records(folder):
        if record["type"] == "history":
            item = record["history"]["item"]
            steps.setdefault(item["_step"], {}).update({k: v for k, v in item.items() if not k.startswith("_")})
    return steps


def expected(rows: list[dict[str, Any]]) -> dict[int, dict[str, float]]:
    steps: dict[int, dict[str, float]] = {}
    for step, values in map(curves, rows):
        steps.setdefault(step, {}).update(values)
    return steps


def test_the_offline_file_holds_the_numbers_of_the_metrics_file() -> None:
    words = "algo=maml backbone.filters=4 algo.steps=1 references=[] budget=smoke budget.steps=6 budget.log_every=2 "
    words += "budget.validate_every=3 budget.validation_episodes=10 budget.test_episodes=10 engine.threads=1"
    assert main(["train", *words.split()]) == 0
    (folder,) = Path("outputs").glob("*/seed0")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert history(folder) == expected(rows)
    (run,) = [record["run"] for record in records(folder) if record["type"] == "run"]
    assert run["config"]["update"]["algo"]["steps"] == 1


@pytest.fixture(params=["refuses", "hangs"])
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a loopback server that refuses connections, or takes them and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        if request.param == "refuses":
            listener.close()
            yield address
            return
        listener.listen()
        held: list[socket.socket] = []
        threading.Thread(target=lambda: _hold(listener, held), daemon=True).start()
        yield address
        for connection in held:
            connection.close()


def _hold(listener: socket.socket, held: list[socket.socket]) -> None:
    try:
        while True:
            held.append(listener.accept()[0])
    except OSError:
        return


def test_a_bad_server_costs_no_run_and_no_row(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", server)
    tracker, begun = Wandb(timeout=12), time.monotonic()
    started = tracker.start(tmp_path, "maml-toy-00000000/seed0", {"seed": 0}, {"python": "3"})
    for row in ROWS:
        tracker.log(row)
    finished = tracker.finish({"accuracy": {"mean": 0.5}}, None)
    assert time.monotonic() - begun < 2 * 12 + 5
    assert started
    assert "offline" in started
    assert finished
    assert "wandb sync" in finished
    assert history(tmp_path) == expected(ROWS)
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), f"{path} holds the key"


def test_importing_the_tracker_is_cheap() -> None:
    code = "import sys, metavision.tracking.wandb; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_identity_that_a_full_disk_cuts_short_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(path: Path, text: str, **_: Any) -> None:
        path.write_bytes(text.encode()[: len(text) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", half)
        with pytest.raises(InputError, match="No space left"):
            _identity(tmp_path, "maml-toy-00000000/seed0")
    identity = _identity(tmp_path, "maml-toy-00000000/seed0")
    assert re.fullmatch("maml-toy-00000000-seed0-[0-9a-f]{6}", identity)
    assert _identity(tmp_path, "maml-toy-00000000/seed0") == identity


def test_an_agent_of_a_sweep_names_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep123")
    monkeypatch.setenv("WANDB_RUN_ID", "agent456")
    tracker = Wandb(tags=["mine", "toy"])
    config = {"seed": 0, "budget": {"name": "short"}}
    tracker.start(tmp_path, "maml-toy-00000000/seed0", config, {"python": "3"})
    for row in ROWS:
        tracker.log(row)
    tracker.finish({"accuracy": {"mean": 0.5}}, None)
    assert history(tmp_path) == expected(ROWS)
    (run,) = [record["run"] for record in records(tmp_path) if record["type"] == "run"]
    assert run["run_id"] == "agent456" and run["sweep_id"] == "sweep123"
    assert run["tags"] == ["mine", "toy", "maml", "short"]
