"""Every algorithm learns, in one multirun and one table: slow."""

import json
import os
from pathlib import Path

import pytest

from metavision.cli.__main__ import main
from tests.algorithms.builds import NAMES

pytestmark = pytest.mark.slow


@pytest.mark.timeout(5400)
@pytest.mark.parametrize("data", ["glyphs", "cifarfs"])
def test_every_algorithm_beats_itself_untrained(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By more than half a 95 % interval over the same episodes."""
    if data == "cifarfs" and not os.environ.get("METAVISION_DATA"):
        pytest.skip("METAVISION_DATA is not set; CIFAR-FS is looked for there")
    settings = ["budget=smoke", "backbone.filters=16", "references=[untrained]", "logger=none"]
    assert main(["train", "-m", f"algo={','.join(NAMES)}", f"data={data}", *settings]) == 0
    table = capsys.readouterr().out.split("all of them")[1]
    results = [json.loads(path.read_text()) for path in Path("outputs").glob("*/seed0/result.json")]
    assert len(results) == len(NAMES)
    for result in results:
        better = result["references"]["untrained"]["difference"]
        assert better["mean"] > better["half_width"], result["name"]
        assert result["name"] in table
