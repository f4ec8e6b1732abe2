"""learn2learn, imported where it is installed; nothing of metavision needs it."""

import sys
import types
from collections.abc import Iterator
from typing import Any

from torch.utils.data import Dataset

from metavision.adapters.optional import optional


def learn2learn() -> Any:
    """The package.

    Raises:
        InputError: it is not installed, or can't be imported.
    """
    for name in ("learn2learn.gym", "learn2learn.gym.envs"):  # importing the real one needs gym, and prints a banner
        sys.modules.setdefault(name, types.ModuleType(name))
    return optional("learn2learn", "scripts/install_learn2learn.py does it")


def episodes(dataset: Dataset[Any], labels: list[int], way: int, shot: int, query: int) -> Iterator[Any]:
    """Tasks of its Taskset, made as its README says: images (way * (shot + query), …) and labels."""
    l2l = learn2learn()
    transforms = l2l.data.transforms
    indices: dict[int, list[int]] = {}
    for i, label in enumerate(labels):
        indices.setdefault(label, []).append(i)
    meta = l2l.data.MetaDataset(dataset, indices_to_labels=dict(enumerate(labels)), labels_to_indices=indices)
    tasks = l2l.data.Taskset(
        meta,
        task_transforms=[
            transforms.NWays(meta, way),
            transforms.KShots(meta, shot + query),
            transforms.LoadData(meta),
            transforms.RemapLabels(meta),
            transforms.ConsecutiveLabels(meta),
        ],
        num_tasks=-1,
    )
    while True:
        yield tasks.sample()
