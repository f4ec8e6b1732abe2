"""What is pinned can be installed wherever this package can."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

PINNED = Path(__file__).parent.parent / "requirements" / "pinned.txt"
OLDEST = "3.11.0"


def test_pinned_packages_take_the_oldest_python() -> None:
    """One that needs a later patch of it leaves pip without a solution, on machines with an older one."""
    lines = [line for line in PINNED.read_text().splitlines() if "==" in line]
    needed = {}
    for line in lines:
        name, _, pinned = line.partition(";")[0].strip().partition("==")
        try:
            there = distribution(name)
        except PackageNotFoundError:  # of another platform
            continue
        if there.version == pinned and (python := there.metadata.get("Requires-Python")):
            needed[line] = python
    if not needed:
        pytest.skip("nothing is installed as pinned")
    assert not {line: python for line, python in needed.items() if not SpecifierSet(python).contains(OLDEST)}
