"""What became of the jobs of a sweep: a small file for each, since they may run in other processes or elsewhere.

<sweep folder>/jobs/<number>.json
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from metavision.drafts import draft_of
from metavision.errors import InputError


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Args:
        overrides: what the job was told.
        folder: the absolute path of the folder of its run or evaluation; None if it failed.
        exit_code: 0, or why it failed.
        error: the line that says so.
    """

    overrides: Sequence[str]
    folder: str | None
    exit_code: int
    error: str


def write(sweep: Path, number: int, outcome: Outcome) -> None:
    """Whole or not at all."""
    path = sweep / "jobs" / f"{number}.json"
    with draft_of(path, alone=True) as draft:
        draft.write_text(json.dumps(asdict(outcome), indent=2))


def read(sweep: Path) -> list[Outcome]:
    """Of all jobs that have ended, in their order.

    Raises:
        InputError: a file of them is damaged.
    """
    return [_outcome(path) for path in _files(sweep)]


def clear(sweep: Path) -> None:
    """Forgets the jobs of an earlier sweep into the same folder."""
    for path in _files(sweep):
        path.unlink()


def _files(sweep: Path) -> list[Path]:
    """Those of jobs, by number: the folder may hold others, of a user who named it."""
    return sorted(
        (path for path in (sweep / "jobs").glob("*.json") if path.stem.isdigit()), key=lambda path: int(path.stem)
    )


def _outcome(path: Path) -> Outcome:
    try:
        return Outcome(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:  # no JSON, no text, or no such keys
        raise InputError(f"{path} is damaged: {error}") from error
