"""Answers as a file: CSV or JSON, written as they come, complete or not at all."""

import csv
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from metavision.classify.streaming import Answer
from metavision.drafts import draft_of
from metavision.errors import InputError

Write = Callable[[Answer], None]


@contextmanager
def written(out: str, top: int, nearest: int) -> Iterator[Write]:
    """Takes answers, one after another, to a file by its ending, or as CSV to `-`, the standard output.

    Args:
        out: ends in .csv or .json, or is `-`.
        top: columns of likeliest classes.
        nearest: columns of images of the support.

    Raises:
        InputError: it ends otherwise, or can't be written.
    """
    if out == "-":
        yield _csv(sys.stdout, top, nearest)
        return
    with whole(Path(out)) as file:
        if out.lower().endswith(".csv"):
            yield _csv(file, top, nearest)
        else:
            with _json(file) as write:
                yield write


def checked(out: str) -> str:
    """Raises InputError unless `out` says what is to be written."""
    if out != "-" and not out.lower().endswith((".csv", ".json")):
        raise InputError(f"--out is {out}; it must end in .csv or .json, or be -")
    return out


@contextmanager
def whole(path: Path) -> Iterator[IO[str]]:
    """A file that takes its name when all is written. Names in it need not be UTF-8, and are written as they are.

    Raises:
        InputError: it can't be written.
    """
    with draft_of(path) as draft, draft.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        yield file


def _csv(file: IO[str], top: int, nearest: int) -> Write:
    """A row for each file: names with commas, quotes or line ends are quoted as usual."""
    rows = csv.writer(file, lineterminator="\n")
    pairs = [f"{word}_{i + 1}" for i in range(top) for word in ("class", "probability")]
    near = [f"{word}_{i + 1}" for i in range(nearest) for word in ("nearest", "cosine")]
    rows.writerow(["file", "prediction", "probability", "familiar", *pairs, *near, "error"])

    def write(answer: Answer) -> None:
        if answer.error:
            rows.writerow([answer.file, "", "", "", *[""] * (len(pairs) + len(near)), answer.error])
            return
        told = [cell for name, value in (*answer.top, *answer.nearest) for cell in (name, f"{value:.4f}")]
        rows.writerow([answer.file, answer.prediction, f"{answer.top[0][1]:.4f}", f"{answer.familiar:.4f}", *told, ""])

    return write


@contextmanager
def _json(file: IO[str]) -> Iterator[Write]:
    """A list with an object for each file."""
    empty = True

    def write(answer: Answer) -> None:
        nonlocal empty
        about: dict[str, object] = {"file": answer.file}
        if answer.error:
            about["error"] = answer.error
        else:
            about |= {
                "prediction": answer.prediction,
                "probability": answer.top[0][1],
                "familiar": answer.familiar,
                "classes": [{"class": name, "probability": value} for name, value in answer.top],
                "nearest": [{"file": name, "cosine": value} for name, value in answer.nearest],
            }
        file.write(f"{'[' if empty else ','}\n{json.dumps(about, ensure_ascii=False)}")
        empty = False

    yield write
    file.write("[]\n" if empty else "\n]\n")
