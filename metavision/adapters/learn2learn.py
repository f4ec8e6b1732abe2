"""learn2learn, imported where it is installed; nothing of metavision needs it."""

import importlib
import sys
import types
import warnings
from collections.abc import Iterator
from typing import Any

from torch.utils.data import Dataset

from metavision.errors import InputError


def learn2learn() -> Any:
    """The package.

    Raises:
        InputError: it is not installed, or can't be imported.
    """
    for name in ("learn2learn.gym", "learn2learn.gym.envs"):  # importing the real one needs gym, and prints a banner
        sys.modules.setdefault(name, types.ModuleType(name))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("learn2learn")
    except ImportError as error:
        raise InputError(f"learn2learn is not installed ({error}); scripts/install_learn2learn.py does it") from error


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
