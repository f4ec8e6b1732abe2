"""The page on adding an algorithm, followed to the letter."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from metavision.cli.__main__ import main
from tests.algorithms import builds
from tests.algorithms import test_laws as laws
from tests.pages import followed

PAGE = Path(__file__).parent.parent / "docs" / "add-an-algorithm.md"


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The page's command, in a folder with the page's files."""
    ((program, *words),) = followed(PAGE, tmp_path)
    assert program == "metavision" and (tmp_path / "mahalanobis.py").is_file()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield words
    sys.modules.pop("mahalanobis", None)


def test_it_is_short() -> None:
    assert len(PAGE.read_text().splitlines()) < 60


def test_its_algorithm_trains(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "budget.steps=3", "logger=none", "engine.threads=1"]) == 0
    assert "mahalanobis-glyphs" in capsys.readouterr().out


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "law",
    [
        lambda name: laws.test_every_mapping_gives_the_same_gradient(name, "batch"),
        laws.test_every_mapping_gives_the_same_scores,
        laws.test_the_gradient_is_the_slope_of_the_loss,
        lambda name: laws.test_queries_see_each_other_where_declared_and_nowhere_else(name, "running"),
        laws.test_the_order_of_support_and_query_is_immaterial,
        lambda name: laws.test_padding_is_immaterial(name, "group"),
        laws.test_descending_the_gradient_lowers_the_loss,
    ],
    ids=range(7),
)
@pytest.mark.usefixtures("command")
def test_its_algorithm_obeys_the_laws(
    law: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sys.path.append(str(tmp_path))
    where = f"hydra.searchpath=[file://{tmp_path / 'mine'}]"
    monkeypatch.setitem(builds.QUIET, "mahalanobis", [where])
    law("mahalanobis")
