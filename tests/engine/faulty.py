"""An algorithm that goes wrong in the middle of training, for some tasks, or in one process."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import torch

from metavision.algorithms.base import Score
from metavision.algorithms.maml import MAML
from metavision.engine import ranks
from metavision.types import Episode, Meta


@dataclass(frozen=True, eq=False, kw_only=True)
class Faulty(MAML):
    """MAML, but for a third step whose loss is not a number for some tasks, or for the second process, whose memory is
    too small once."""

    memory: bool = False
    spoils: bool = False

    calls: ClassVar[int] = 0

    def at(self, progress: float) -> Self:
        return replace(self, spoils=progress == 0.5)

    def score(self, meta: Meta, episode: Episode) -> Score:
        loss, metrics = super().score(meta, episode)
        if not self.spoils:
            return loss, metrics
        if self.memory:
            Faulty.calls += 1
            if ranks.number() == 1 and Faulty.calls == 1:
                Path("memory-was-short").touch()
                raise MemoryError
            return loss, metrics
        spoilt = (episode.support.x.sum() * 7).floor() % 2 == 1  # of the last of four, so in one process alone
        return loss * torch.where(spoilt, torch.nan, 1.0), metrics
