"""A run's folder: named by what the run is, locked while a process is in it, finished when DONE is there.

outputs/<algo>-<data>-<id>/seed<k>/
    config.yaml  overrides.txt  provenance.json     what was asked for, with which code, on what
    metrics.jsonl                                   the truth about the course of training
    checkpoints/last.safetensors  previous.safetensors  best.safetensors
    episodes.npz  result.json  DONE                 the test, in this order
"""

import fcntl
import hashlib
import json
import math
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
import yaml

from metavision.drafts import draft_of
from metavision.errors import InputError

CHECKPOINTS, EVALUATIONS = "checkpoints", "evaluations"  # below a run


def run_id(identity: Mapping[str, Any]) -> str:
    """Eight hex digits of what decides a run's result."""
    return hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=4).hexdigest()


class Run:
    """Reading and writing of a run's folder. All writes but metrics are whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of_checkpoint(cls, path: Path) -> Self | None:
        """The run in whose folder a checkpoint lies; None: it lies elsewhere."""
        return cls(path.parent.parent) if path.parent.name == CHECKPOINTS else None

    @property
    def name(self) -> str:
        """`<algo>-<data>-<id>/seed<k>`."""
        return "/".join(self.folder.resolve().parts[-2:])

    @property
    def done(self) -> bool:
        return (self.folder / "DONE").is_file()

    def checkpoint(self, name: str) -> Path:
        return self.folder / CHECKPOINTS / f"{name}.safetensors"

    @contextmanager
    def locked(self, *, wait: bool) -> Iterator[None]:
        """Holds the folder for this process; a process that dies lets go of it.

        Raises:
            InputError: another process holds it and `wait` is false, or it can't be written.
        """
        try:
            (self.folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
            lock = (self.folder / ".lock").open("w")
        except OSError as error:
            raise InputError(f"the output folder {self.folder} can't be written: {error.strerror}") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError as error:
                message = f"another process is in {self.folder}; wait=true waits for it, another seed is another run"
                raise InputError(message) from error
            try:
                yield
            finally:
                self._remove_if_unused()

    def _remove_if_unused(self) -> None:
        """Leaves nothing behind of a run that was refused before it began."""
        if not any(path.is_file() and path.name not in (".lock", "overrides.txt") for path in self.folder.rglob("*")):
            shutil.rmtree(self.folder, ignore_errors=True)
            with suppress(OSError):  # other seeds live beside it
                self.folder.parent.rmdir()

    def clear(self) -> None:
        """Forgets what was run here, and the evaluations of it."""
        shutil.rmtree(self.folder / EVALUATIONS, ignore_errors=True)
        for path in [self.folder / "DONE", *self.folder.glob(f"{CHECKPOINTS}/*"), *self.folder.glob("*.*")]:
            if path.is_file() and path.name != ".lock":
                path.unlink()

    def write(self, name: str, content: Mapping[str, Any] | str) -> None:
        """A text, YAML or JSON file, by its ending."""
        if not isinstance(content, str):
            content = yaml.safe_dump(dict(content), sort_keys=False) if name.endswith(".yaml") else _json(content, 2)
        with draft_of(self.folder / name, alone=True) as draft:
            draft.write_text(content)

    def write_episodes(self, arrays: Mapping[str, np.ndarray]) -> None:
        (self.folder / "DONE").unlink(missing_ok=True)  # of an evaluation that is made anew
        with draft_of(self.folder / "episodes.npz", alone=True) as draft, draft.open("wb") as file:
            np.savez_compressed(file, **dict(arrays))  # type: ignore[arg-type] # numpy takes `allow_pickle` for one

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file; an empty dict if there is none.

        Raises:
            InputError: it is damaged.
        """
        path = self.folder / name
        try:
            content = json.loads(path.read_text())
        except FileNotFoundError:
            return {}
        except ValueError as error:  # no JSON, or no text
            raise InputError(f"{path} is damaged: {error}; rerun=true makes it anew") from error
        if not isinstance(content, dict):
            raise InputError(f"{path} is damaged: it holds no object; rerun=true makes it anew")
        return content

    def append(self, row: Mapping[str, Any]) -> None:
        """One line of metrics, on disk when this returns."""
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(_json(row) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """All rows; a line that a kill cut short is left out."""
        rows = []
        with suppress(FileNotFoundError):
            for line in (self.folder / "metrics.jsonl").read_text(errors="replace").splitlines():
                with suppress(json.JSONDecodeError):
                    rows.append(json.loads(line))
        return [row for row in rows if isinstance(row, dict) and "step" in row]

    def rewind(self, step: int) -> None:
        """Drops the metrics after a step: those that a resumed run will write again."""
        kept = [row for row in self.metrics() if row["step"] <= step]
        self.write("metrics.jsonl", "".join(_json(row) + "\n" for row in kept))

    def finish(self) -> None:
        """The last thing that is written."""
        self.write("DONE", time.strftime("%Y-%m-%dT%H:%M:%SZ\n", time.gmtime()))


class Onlooker(Run):
    """The folder of a run for a process beside the one that writes: what it is told to write, it does not."""

    def clear(self) -> None:
        pass

    def write(self, name: str, content: Mapping[str, Any] | str) -> None:
        pass

    def write_episodes(self, arrays: Mapping[str, np.ndarray]) -> None:
        pass

    def append(self, row: Mapping[str, Any]) -> None:
        pass

    def rewind(self, step: int) -> None:
        pass

    def finish(self) -> None:
        pass


def _json(content: Mapping[str, Any], indent: int | None = None) -> str:
    return json.dumps(_finite(content), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    """JSON knows no nan: it is written as null."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
