"""A sweep's folder, known to the command and to its jobs wherever they run."""

from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from metavision.records import jobs


class Sweep(Callback):
    """Hydra tells it when a sweep begins, and hands it to the workers with the folder that it has noted.

    A job could not find the folder by itself: the configuration names it by time, and below `outputs`, which jobs may
    set.
    """

    here: ClassVar[Path | None] = None  # of this process; None: no sweep
    searches: ClassVar[bool] = False  # whether trials are chosen on the way

    def __init__(self) -> None:
        self.folder: Path | None = None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        Sweep.here = self.folder = Path(config.hydra.sweep.dir).absolute()
        Sweep.searches = "n_trials" in config.hydra.sweeper
        jobs.clear(self.folder)

    def on_job_start(self, config: DictConfig, **_: Any) -> None:  # noqa: ARG002
        Sweep.here = self.folder
