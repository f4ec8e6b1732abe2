"""No dashboard."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metavision.tracking.base import Notice


class Nothing:
    """Sends nothing anywhere."""

    def start(self, folder: Path, name: str, config: Mapping[str, Any], provenance: Mapping[str, Any]) -> Notice:  # noqa: ARG002
        return None

    def log(self, row: Mapping[str, Any]) -> None:
        pass

    def finish(self, result: Mapping[str, Any], checkpoint: Path | None) -> Notice:  # noqa: ARG002
        return None
