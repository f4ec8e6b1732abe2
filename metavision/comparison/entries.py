"""Finished runs and evaluations, found and read from disk."""

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from metavision.console import note
from metavision.errors import InputError
from metavision.records import jobs
from metavision.records.jobs import Outcome
from metavision.records.run import EVALUATIONS, Run
from metavision.records.selection import validation


@dataclass(frozen=True, eq=False)
class Entry:
    """A result, with what led to it.

    Args:
        folder: of a run, or of an evaluation of one.
        result: `result.json`.
    """

    folder: Path
    result: Mapping[str, Any]

    @property
    def run(self) -> Path:
        """The folder of the run itself."""
        return self.folder.parent.parent if self.folder.parent.name == EVALUATIONS else self.folder

    @property
    def name(self) -> str:
        """`<algo>-<data>-<id>/seed<k>`."""
        return str(self.result["name"])

    @property
    def setting(self) -> str:
        """`<algo>-<data>-<id>`, as it was recorded: runs that share it differ by seed, wherever they lie by now."""
        return str(self.result["name"]).partition("/")[0]

    @property
    def metric(self) -> str:
        return self.result["metric"]

    @property
    def seed(self) -> int:
        return int(self.result.get("seed", 0))

    @cached_property
    def config(self) -> dict[str, Any]:
        """Of the training; of an evaluation, what it was asked for is under `evaluate`."""
        path = self.run / "config.yaml"
        try:
            config = yaml.safe_load(path.read_text()) if path.is_file() else {}
        except yaml.YAMLError as error:
            raise InputError(f"{path} is damaged: {error}") from error
        if not isinstance(config, Mapping):
            raise InputError(f"{path} is damaged: it holds no configuration")
        asked = self.result.get("asked")
        return {**config, **({"evaluate": asked} if asked else {})}

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """By episode, see `engine.testing.test`."""
        try:
            with (self.folder / "episodes.npz").open("rb") as file, np.load(file) as arrays:
                return dict(arrays)
        except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f"{self.folder}/episodes.npz is damaged: {error}") from error

    @cached_property
    def values(self) -> np.ndarray:
        """(n,): the metric of every episode."""
        return self.arrays["trained"].astype(np.float64)

    @cached_property
    def curve(self) -> list[dict[str, Any]]:
        """The rows of the training's metrics."""
        return Run(self.run).metrics()

    @property
    def validation(self) -> float:
        """The metric on the validation classes by which the tested checkpoint was chosen; nan where it is not known."""
        return validation(self.curve, self.metric, self.result.get("step", -1))

    @property
    def provenance(self) -> dict[str, Any]:
        return Run(self.run).read("provenance.json")

    @property
    def command(self) -> str:
        """What makes this run again."""
        overrides = self.run / "overrides.txt"
        words = overrides.read_text().split("\n") if overrides.is_file() else []
        return " ".join(["metavision train", *(word for word in words if word)])


NEEDED = ("name", "metric", "data", "split", "split_hash", "episodes", "episodes_hash", "normalisation", "transductive")
SIZES = ("way", "shot", "query", "n", "seed")


def found(places: Sequence[str]) -> list[Entry]:
    """All results at places: runs, evaluations, folders of seeds, of a sweep, or of anything with runs below.

    A run stands for its own test, an `evaluations` folder for the evaluations in it. What is found below a folder and
    can't be compared is left out, with a note.

    Raises:
        InputError: nothing is there, or what was named can't be compared.
    """
    entries: dict[Path, Entry] = {}
    for place in map(Path, places):
        for folder in _folders(place):
            try:
                entries[folder.resolve()] = entry(folder)
            except InputError as error:
                if folder == place:
                    raise
                note(f"left out: {error}")
    if not entries:
        raise InputError("compare needs a run's folder, such as outputs/protonet-glyphs-1a2b3c4d/seed0, or a sweep's")
    return list(entries.values())


def entry(folder: Path) -> Entry:
    """The result in a folder.

    Raises:
        InputError: it is not whole, or of a version that kept less.
    """
    try:
        result = json.loads((folder / "result.json").read_text())
    except FileNotFoundError as error:
        raise InputError(f"{folder} has no result.json") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{folder}/result.json is damaged: {error}") from error
    sizes = result.get("episodes") if isinstance(result, Mapping) else None
    lacks = [key for key in NEEDED if not isinstance(result, Mapping) or key not in result]
    lacks += [key for key in SIZES if not isinstance(sizes, Mapping) or key not in sizes]
    if lacks:
        raise InputError(f"{folder}/result.json has no {lacks[0]}: it is of another version; evaluate the run anew")
    if not (folder / "episodes.npz").is_file():
        raise InputError(f"{folder} has no episodes.npz, so it can't be paired with others")
    return Entry(folder, result)


def _folders(place: Path) -> Iterator[Path]:
    """Folders of finished results at a place."""
    if not place.is_dir():
        raise InputError(f"there is no folder {place}")
    if (place / "DONE").is_file():
        yield place
    elif (place / "metrics.jsonl").is_file():
        raise InputError(f"{place} is not finished; the command that began it goes on with it")
    elif outcomes := jobs.read(place):
        yield from _of_jobs(place, outcomes)
    else:
        below = [done.parent for done in sorted(place.rglob("DONE"))]
        inside = place.name == EVALUATIONS
        finished = [folder for folder in below if inside or folder.parent.name != EVALUATIONS]
        if not finished:
            raise InputError(f"there is no finished run below {place}")
        yield from finished


def _of_jobs(sweep: Path, outcomes: Sequence[Outcome]) -> Iterator[Path]:
    folders = []
    for outcome in outcomes:
        if outcome.folder:
            folders += [place for place in _places(sweep, Path(outcome.folder)) if (place / "DONE").is_file()][:1]
    if not folders:
        raise InputError(f"none of the {len(outcomes)} jobs of {sweep} has a finished run")
    if len(folders) < len(outcomes):
        note(f"{len(outcomes) - len(folders)} of the {len(outcomes)} jobs of {sweep} have no finished run")
    yield from folders


def _places(sweep: Path, folder: Path) -> Iterator[Path]:
    """Where a job's folder may be: where it was written, or beside a sweep that was moved with its runs."""
    yield folder
    below = 4 if folder.parent.name == EVALUATIONS else 2  # <run>/seed<k>/evaluations/<id>, or <run>/seed<k>
    yield sweep.resolve().parent.parent.joinpath(*folder.parts[-below:])
