"""The contract of a tracker: a copy of what `metrics.jsonl` holds, sent to a dashboard. The file is the truth."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

Notice = str | None  # a line for the user: where the dashboard is, or what was not sent and how to send it


class Tracker(Protocol):
    """No method raises, prompts, prints, or waits for longer than the tracker's timeout."""

    def start(self, folder: Path, name: str, config: Mapping[str, Any], provenance: Mapping[str, Any]) -> Notice:
        """Opens the dashboard of a run, or goes on with the one that its folder was started with.

        Args:
            folder: the run's; a tracker keeps its own files below it.
            name: `<algo>-<data>-<id>/seed<k>`; the part before the slash is the group.
            config: resolved.
            provenance: see `metavision.records.provenance`.
        """
        ...

    def log(self, row: Mapping[str, Any]) -> None:
        """A row of `metrics.jsonl`: `step`, `split`, and numbers; numbers under `timing` are one level down."""
        ...

    def finish(self, result: Mapping[str, Any], checkpoint: Path | None) -> Notice:
        """Closes the dashboard with the run's result (`result.json`; empty if it did not finish)."""
        ...


def numbers(tree: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a nested mapping under keys joined by `/`; whatever else it holds is no curve."""
    flat: dict[str, float] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= numbers(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            flat[f"{prefix}{key}"] = value
    return flat


def curves(row: Mapping[str, Any]) -> tuple[int, dict[str, float]]:
    """A row's step, and its numbers as `train/loss` or `timing/train/seconds`: rows of one step share no name."""
    split = row["split"]
    results = {key: value for key, value in row.items() if key not in ("step", "split", "timing")}
    return row["step"], numbers({split: results, "timing": {split: row.get("timing", {})}})
