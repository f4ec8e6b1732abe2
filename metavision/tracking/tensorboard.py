"""TensorBoard's event files, below the run's folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metavision.tracking.base import Notice

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """Writes a run's curves, its settings as a text, and its result as scalars of the last step."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._writer: SummaryWriter | None = None
        self._settings = ""
        self._step = 0

    def start(self, folder: Path, name: str, config: Mapping[str, Any], provenance: Mapping[str, Any]) -> Notice:  # noqa: ARG002
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError:
            return "TensorBoard gets nothing of this run: pip install tensorboard"
        self._folder = folder / "tensorboard"
        settings = json.dumps({**config, "provenance": provenance}, indent=4, default=str)
        self._settings = "\n".join("    " + line for line in settings.splitlines())  # indented: Markdown's verbatim
        return f"TensorBoard: tensorboard --logdir {self._folder}"
