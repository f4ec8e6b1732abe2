"""A page of the documentation as files and commands, so that what it says can be followed to the letter."""

import re
from pathlib import Path

BLOCK = re.compile(r"(?:^`([^`\n]+)`[^\n]*:\n\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def followed(page: Path, folder: Path) -> list[list[str]]:
    """Writes the files that a page shows below a line that begins with their path; returns its commands, in words."""
    commands = []
    for path, language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language:
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
        else:
            commands += [line.split() for line in text.splitlines()]
    return commands
