"""TensorBoard's event files, below the run's folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metavision.tracking.base import Notice, curves, numbers

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """Writes a run's curves, its settings as a text, and its result as scalars of the last step."""

    def __init__(self) -> None:
        self._writer: SummaryWriter | None = None
        self._folder = Path()
        self._text = ""
        self._step = 0

    def start(self, folder: Path, name: str, config: Mapping[str, Any], provenance: Mapping[str, Any]) -> Notice:  # noqa: ARG002
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError:
            return "TensorBoard gets nothing of this run: pip install tensorboard"
        self._folder = folder / "tensorboard"
        settings = json.dumps({**config, "provenance": provenance}, indent=4, default=str)
        self._text = "\n".join("    " + line for line in settings.splitlines())  # indented: Markdown's verbatim
        return f"TensorBoard: tensorboard --logdir {self._folder}"

    def log(self, row: Mapping[str, Any]) -> None:
        if not self._text:
            return
        self._step, values = curves(row)
        self._write(values)

    def finish(self, result: Mapping[str, Any], checkpoint: Path | None) -> Notice:  # noqa: ARG002
        if self._text:
            self._write(numbers({"test": result}))
        if self._writer:
            self._writer.close()
        return None

    def _write(self, values: Mapping[str, float]) -> None:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # Opened by the first row, whose step is known: a resumed run writes rows again, which this purges.
            self._writer = SummaryWriter(str(self._folder), purge_step=self._step)
            self._writer.add_text("settings", self._text, self._step)
        for name, value in values.items():
            self._writer.add_scalar(name, value, self._step)
