"""Pages of the documentation as files and commands, so that what they say can be followed to the letter."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

BLOCK = re.compile(r"(?:^`([^`\n]+)`[^\n]*:\n\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = "<!-- run -->"  # on the line above a block: the tests run it
PARTED = re.compile(r"(?:^(<!-- run -->)\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """What stands between fences."""

    page: Path
    language: str  # empty: commands of a shell
    text: str
    runs: bool  # whether it is marked to be run


def blocks(page: Path) -> Iterator[Block]:
    """Those of a page, in their order."""
    for mark, language, text in PARTED.findall(page.read_text(encoding="utf-8")):
        yield Block(page, language, text, bool(mark))


def commands(text: str) -> Iterator[list[str]]:
    """The words of each line of a shell, without comments; lines that end in a backslash go on."""
    for line in text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield [word for word in words if word != "…"]  # which stands for words that were said before


def followed(page: Path, folder: Path) -> list[list[str]]:
    """Writes the files that a page shows below a line that begins with their path; returns its commands, in words."""
    found = []
    for path, language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language:
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
        else:
            found += list(commands(text))
    return found
