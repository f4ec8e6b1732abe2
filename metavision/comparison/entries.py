"""Finished runs and evaluations, found and read from disk."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from metavision.errors import InputError
from metavision.records.run import Run

EVALUATIONS = "evaluations"  # below a run


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
        return Run(self.run).name

    @property
    def setting(self) -> str:
        """`<algo>-<data>-<id>`: runs that share it differ by seed."""
        return self.run.parent.name

    @property
    def metric(self) -> str:
        return self.result["metric"]

    @property
    def seed(self) -> int:
        return int(self.result.get("seed", 0))

    @cached_property
    def config(self) -> dict[str, Any]:
        """Of the training; of an evaluation, what it was asked for is under `evaluate`."""
        config = yaml.safe_load((self.run / "config.yaml").read_text()) if (self.run / "config.yaml").is_file() else {}
        asked = self.result.get("asked")
        return {**config, **({"evaluate": asked} if asked else {})}

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """By episode, see `engine.testing.test`."""
        with np.load(self.folder / "episodes.npz") as file:
            return dict(file)

    @cached_property
    def values(self) -> np.ndarray:
        """(n,): the metric of every episode."""
        return self.arrays["trained"].astype(np.float64)

    @cached_property
    def curve(self) -> list[dict[str, Any]]:
        """The rows of the training's metrics."""
        return Run(self.run).metrics()

    @property
    def provenance(self) -> dict[str, Any]:
        return Run(self.run).read("provenance.json")

    @property
    def command(self) -> str:
        """What makes this run again."""
        overrides = self.run / "overrides.txt"
        words = overrides.read_text().split("\n") if overrides.is_file() else []
        return " ".join(["metavision train", *(word for word in words if word)])


def found(places: Sequence[str]) -> list[Entry]:
    """All results at places: runs, evaluations, folders of seeds, of a sweep, or of anything with runs below.

    A run stands for its own test, an `evaluations` folder for the evaluations in it.

    Raises:
        InputError: nothing is there, or a run that was named is not finished.
    """
    folders = dict.fromkeys(folder.resolve() for place in places for folder in _folders(Path(place)))
    entries = [entry(folder) for folder in folders]
    if not entries:
        raise InputError("compare needs a run's folder, such as outputs/protonet-glyphs-1a2b3c4d/seed0, or a sweep's")
    return entries


def entry(folder: Path) -> Entry:
    """The result in a folder.

    Raises:
        InputError: it is not whole.
    """
    try:
        result = json.loads((folder / "result.json").read_text())
        result["metric"], result["episodes"]["n"]
    except FileNotFoundError as error:
        raise InputError(f"{folder} has no result.json") from error
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{folder}/result.json is damaged: {error}") from error
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
    elif jobs := sorted((place / "jobs").glob("*.json"), key=lambda path: int(path.stem)):
        for job in jobs:
            folder = json.loads(job.read_text()).get("folder")
            if folder and (Path(folder) / "DONE").is_file():
                yield Path(folder)
    else:
        below = [done.parent for done in sorted(place.rglob("DONE"))]
        inside = place.name == EVALUATIONS
        finished = [folder for folder in below if inside or folder.parent.name != EVALUATIONS]
        if not finished:
            raise InputError(f"there is no finished run below {place}")
        yield from finished
