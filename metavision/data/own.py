"""Sources that make their episodes themselves: functions to regress, and the task sets of other libraries."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from metavision import trees
from metavision.data import transfer
from metavision.data.spec import EpisodeSpec
from metavision.seeds import seed
from metavision.types import Episode


class OwnSource(Protocol):
    """A split of which whole tasks can be had.

    Attributes:
        name: of the data set.
        split: train, val or test.
        fingerprint: names the distribution of tasks.
        classes: none that could be told apart.
        class_hashes: none, so that nothing is known of leaks; likewise `class_keys`.
        shared: whether the splits have the same tasks.
    """

    name: str
    split: str
    fingerprint: str
    classes: tuple[str, ...]
    class_hashes: list[str]
    class_keys: tuple[str, ...]
    shared: bool

    def task(self, spec: EpisodeSpec, key: int, i: int) -> Episode:
        """Task i: a function of (fingerprint, spec, split, key, i) alone."""
        ...


class OwnEpisodes:
    """Batches of tasks of such a source; the same interface as `Episodes`."""

    where = "made as they are needed"
    replacement = True

    def __init__(self, source: OwnSource, spec: EpisodeSpec, seed_: int, device: torch.device) -> None:
        self.source, self.spec, self.seed, self.device = source, spec, seed_, device
        sizes = (spec.way, spec.shot, spec.query)
        self.key = seed("tasks", source.name, source.split, source.fingerprint, *sizes, seed_)

    def __len__(self) -> int:
        return 2**62

    def batch(self, indices: Sequence[int]) -> Episode:
        """Tasks `indices` as T tasks."""
        tasks = trees.stack([self.source.task(self.spec, self.key, int(i)) for i in indices])
        return pytree.tree_map_only(Tensor, lambda x: transfer.to(self.device, x), tasks)

    def pool(self, n: int) -> Tensor:
        """About n examples x (n, …): those of the support of the first tasks."""
        each = self.spec.way * self.spec.shot
        return self.batch(range(-(-n // each))).support.x.flatten(0, 1)[:n]
