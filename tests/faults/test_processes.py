"""Real signals to a real command: it ends at a step, says how, and the same command goes on to the same result."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from metavision.interruption import INTERRUPTED, REQUEUE
from tests.cli.test_runs import rows
from tests.faults.world import SETTINGS, photos

pytestmark = pytest.mark.slow


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "metavision.cli", "train", *words, *SETTINGS, "data.path=photos", "budget.steps=400"]


def signalled(number: int, words: list[str]) -> tuple[int, str]:
    """Exit code and stderr of a command that is signalled when it has logged some steps."""
    process = subprocess.Popen(command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None:
        found = list(Path("cut").glob("*/seed0/metrics.jsonl"))
        if found and found[0].read_text().count("\n") > 5:
            process.send_signal(number)
            break
        time.sleep(0.005)
    error = process.communicate()[1]
    return process.returncode, error


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, REQUEUE), (signal.SIGUSR1, REQUEUE), (signal.SIGINT, INTERRUPTED)]
)
def test_a_signal_ends_a_command_which_goes_on(number: int, code: int, devices: int) -> None:
    """Several processes end behind the same step, and the first to end waits for its checkpoint."""
    photos(Path("photos"))
    words = [f"engine.devices={devices}"]
    ended, error = signalled(number, ["outputs=cut", *words])
    lines = error.splitlines()
    assert ended == code, error
    assert lines[-1] == (
        f"metavision: error: ended by {signal.Signals(number).name}; the same command goes on from the last checkpoint"
    )
    step = next(int(line.split()[3].rstrip(",")) for line in lines if line.startswith("suspended behind step"))
    assert f"with the checkpoint of step {step}" in error
    again = subprocess.run(command("outputs=cut", *words), check=True, capture_output=True, text=True)
    assert f"going on from step {step}" in again.stderr
    subprocess.run(command("outputs=whole", *words), check=True, capture_output=True)
    (cut,), (whole,) = (list(Path(name).glob("*/seed0")) for name in ("cut", "whole"))
    assert rows(cut) == rows(whole)
    a, b = (np.load(folder / "episodes.npz")["trained"] for folder in (cut, whole))
    np.testing.assert_array_equal(a, b)


def test_a_signal_ends_a_sweep() -> None:
    photos(Path("photos"))
    ended, error = signalled(signal.SIGTERM, ["-m", "outputs=cut", "seed=0,1,2"])
    assert ended == REQUEUE and error.count("metavision: error: ") == 1, error
    assert not list(Path("cut").glob("*/seed1/*"))
