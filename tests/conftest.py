"""Every test runs offline, with a cache and outputs of its own, and leaves torch as it was."""

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if "PYTEST_XDIST_WORKER" in os.environ:  # several at once: a core for each
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch

from metavision.data.source import Source
from metavision.types import Episode, Examples


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for the session: what is packed in it depends on nothing that a test changes.

    Processes that test at once share it, since the built-in letters take half a minute to draw.
    """
    own = tmp_path_factory.getbasetemp()
    place = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "cache"
    place.mkdir(exist_ok=True)
    return place


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, cache: Path, tmp_path: Path) -> None:
    monkeypatch.setenv("METAVISION_CACHE", str(cache))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def torch_as_it_was() -> Iterator[None]:
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    yield
    torch.set_default_dtype(dtype)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def float64() -> None:
    torch.set_default_dtype(torch.float64)


def toy_source(classes: int = 8, images: int = 10, size: int = 16, channels: int = 1) -> Source:
    """Noisy pictures around a random one for each class."""
    rng = np.random.default_rng(0)
    means = rng.uniform(0, 255, (classes, 1, channels, size, size))
    pixels = np.clip(means + rng.normal(0, 60, (classes, images, channels, size, size)), 0, 255)
    return Source(
        "toy",
        "train",
        pixels.reshape(-1, channels, size, size).astype(np.uint8),
        np.repeat(np.arange(classes), images),
        tuple(f"class {c}" for c in range(classes)),
    )


def toy_tasks(tasks: int = 3, way: int = 3, shot: int = 2, query: int = 3, size: int = 16) -> Episode:
    """T random tasks whose classes can be told apart, in the default precision."""
    g = torch.Generator().manual_seed(0)
    means = torch.rand(tasks, way, 1, 1, size, size, generator=g)

    def examples(each: int) -> Examples:
        x = means + 0.3 * torch.randn(tasks, way, each, 1, size, size, generator=g)
        return Examples(x.flatten(1, 2), torch.arange(way).repeat_interleave(each).expand(tasks, -1))

    return Episode(examples(shot), examples(query))
