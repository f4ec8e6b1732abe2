"""What new processes import and take."""

from pathlib import Path

import pytest

from metavision.bench import startup

REPORT = """import time: self [us] | cumulative | imported package
import time:   1000000 |    1000000 |   torch._C
import time:    500000 |    1500000 | torch
import time:    200000 |     200000 |     numpy
a line of the program | itself
import time:         1 |          1 | tiny
import time:       300 |        300 | small
"""


def test_imports_are_added_by_package() -> None:
    found = startup.by_package(REPORT)
    assert found == pytest.approx({"all": 1.700301, "torch": 1.5, "numpy": 0.2, "small": 0.0003})


def test_a_row_for_every_command() -> None:
    commands = {"busy": ("-c", "import time; time.sleep(0.2)"), "broken": ("-c", "import nosuchpackage")}
    busy, broken = startup.rows(1, commands)
    assert busy["wall"] > 0.2 and busy["cpu"] > 0 and busy["imports"]["all"] > 0 and not busy["missing"]
    assert "No module named 'nosuchpackage'" in broken["missing"]["broken"] and "wall" not in broken


@pytest.mark.slow
def test_the_first_step_is_reached(tmp_path: Path) -> None:
    """The program that ends with it knows the engine's observer, and complains if no step was taken."""
    program = startup.FIRST_STEP.replace('"rerun=true"', '"rerun=true", "backbone.filters=4", "episode.query=1"')
    status, said = startup.imported(("-c", program), str(tmp_path))
    assert status == 0, said.splitlines()[-1]
    assert "no step was taken" not in said and startup.by_package(said)["torch"] > 0
