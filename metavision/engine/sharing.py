"""What of a step's work falls to a process where there are several."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from metavision.data.batches import Episodes
from metavision.data.minibatches import Minibatches
from metavision.data.own import OwnEpisodes
from metavision.engine import ranks
from metavision.errors import InputError
from metavision.nn import shared


@dataclass(frozen=True)
class Share:
    """Tasks are divided; where a step is one batch of images, these are, and moments are those of all that are divided.

    Args:
        train: the tasks of training.
        meta_batch: how many a step has.

    Raises:
        InputError: there are fewer images than processes.
    """

    train: Episodes | OwnEpisodes | Minibatches
    meta_batch: int

    def __post_init__(self) -> None:
        if (batches := self._divided) is not None and batches.size < ranks.count():
            raise InputError(f"batch is {batches.size}; {ranks.count()} processes need an image each")

    @property
    def of_images(self) -> bool:
        """Whether images are divided."""
        return self._divided is not None

    @property
    def weight(self) -> float:
        """Of this process's mean in that of all."""
        work = self.meta_batch if self._divided is None else self._divided.size
        return len(ranks.share(work)) / work

    @property
    def idle(self) -> int:
        """Processes without work in a step."""
        return 0 if self.of_images else max(0, ranks.count() - self.meta_batch)

    def batch(self, step: int) -> Any:
        """The tasks of a step that are worked on here, or a part of each; None: there are none."""
        if (batches := self._divided) is not None:
            return batches.part(step, ranks.share(batches.size))
        mine = ranks.share(self.meta_batch)
        first = step * self.meta_batch
        return self.train.batch(range(first + mine.start, first + mine.stop)) if mine else None

    def scope(self) -> AbstractContextManager[None]:
        """In which a process works on its share."""
        return shared.over(ranks.total) if self.of_images else nullcontext()

    @property
    def _divided(self) -> Minibatches | None:
        """The batches whose images are divided."""
        divided = ranks.count() > 1 and self.meta_batch == 1
        return self.train if divided and isinstance(self.train, Minibatches) else None
