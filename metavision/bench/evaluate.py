"""Evaluation of a metric method with stored weights: ours, and easyfsl's by images and by cached features.

Prototypical networks on Conv4, which both have, with the same weights. All run in this process, on one thread, in
turns; what is timed is process CPU time, of a sample of the peer's episodes. That accuracies are the same is seen on
the same episodes.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from metavision import trees
from metavision.adapters import easyfsl
from metavision.algorithms.base import Algorithm
from metavision.bench.timing import interleaved
from metavision.data.batches import Episodes
from metavision.engine.embedding import Embedder
from metavision.engine.evaluate import evaluate
from metavision.engine.fitting import Wanted, fitted
from metavision.engine.mapping import Mapper
from metavision.types import Meta

SAMPLE = {"images": 20, "features": 400}  # of the peer's episodes
ROUNDS = 5


def rows(algorithm: Algorithm, meta: Meta, episodes: Episodes, n: int) -> Iterator[dict[str, Any]]:
    """A row for each way to go about it, with milliseconds an episode.

    Args:
        algorithm: prototypical networks with their test-time settings, on a CPU.
        meta: calibrated.
        episodes: of fixed sizes.
        n: how many of them we score; the embedding of the split is a part of the work by images.
    """
    network = _Network(algorithm, meta)
    features = _features(network, episodes)
    kept = Embedder(keep=1)
    by_images = _Peer(easyfsl.prototypical(network), episodes.images.take)
    by_features = _Peer(easyfsl.prototypical(nn.Identity()), lambda index: features[torch.from_numpy(index)])

    def ours(embedder: Embedder | None) -> np.ndarray:
        return evaluate(algorithm, meta, episodes, n, _fit, embedder=embedder).metrics["accuracy"]

    spec = episodes.spec
    loaded = easyfsl.episodes(_Rows(features, episodes.source.labels), spec.way, spec.shot, spec.query)
    work: dict[str, tuple[Callable[[], object], Callable[[], object], _Peer]] = {
        "images": (
            lambda: ours(None),
            lambda: by_images.on(episodes, SAMPLE["images"]),
            by_images,
        ),
        "features": (
            lambda: ours(kept),
            lambda: [by_features.answers(*task[:3]) for task in islice(loaded, SAMPLE["features"])],
            by_features,
        ),
    }
    for what, (mine, theirs, peer) in work.items():
        seconds = interleaved({"metavision": mine, "easyfsl": theirs}, ROUNDS)
        each = {"metavision ms": 1e3 * seconds["metavision"] / n, "easyfsl ms": 1e3 * seconds["easyfsl"] / SAMPLE[what]}
        first = min(SAMPLE["images"], n)
        apart = np.abs(peer.on(episodes, first) - ours(kept)[:first])
        ratio = each["easyfsl ms"] / each["metavision ms"]
        yield {"work": what, **each, "ratio": ratio, "episodes": n, "largest difference": float(apart.max())}


class _Network(nn.Module):
    """The backbone with its weights, as a plain module."""

    def __init__(self, algorithm: Algorithm, meta: Meta) -> None:
        super().__init__()
        self.net = algorithm.backbone
        self.tensors = {**trees.select(meta.params, "backbone"), **trees.select(meta.buffers, "backbone")}

    def forward(self, x: Tensor) -> Tensor:
        return torch.func.functional_call(self.net, self.tensors, (x,))


class _Rows(Dataset[tuple[Tensor, int]]):
    """Features with their labels, as easyfsl's `FeaturesDataset`."""

    def __init__(self, features: Tensor, labels: np.ndarray) -> None:
        self.features, self.labels = features, labels.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.features[i], self.labels[i]

    def get_labels(self) -> list[int]:
        return self.labels


class _Peer:
    """easyfsl's method, one task after another, as its own evaluation does."""

    def __init__(self, method: Any, read: Callable[[np.ndarray], Tensor]) -> None:
        self.method, self.read = method, read

    def answers(self, x: Tensor, y: Tensor, query: Tensor) -> Tensor:
        """Classes (Q,) of the query."""
        with torch.no_grad():
            self.method.process_support_set(x, y)
            return self.method(query).argmax(-1)

    def on(self, episodes: Episodes, n: int) -> np.ndarray:
        """Accuracies (n,) of our first episodes."""
        draw = episodes.sampler[range(n)]
        found = []
        for i in range(n):
            x, xq = (self.read(np.ascontiguousarray(rows.image[i])) for rows in (draw.support, draw.query))
            y, yq = (torch.from_numpy(rows.label[i].copy()) for rows in (draw.support, draw.query))
            found.append(float((self.answers(x, y, xq) == yq).double().mean()))
        return np.array(found)


def _features(network: nn.Module, episodes: Episodes) -> Tensor:
    index = np.arange(len(episodes.source))
    with torch.no_grad():
        parts = [network(episodes.images.take(part)) for part in np.array_split(index, len(index) // 128 + 1)]
    return torch.cat(parts)


def _fit(algorithm: Algorithm, meta: Meta, tasks: Any) -> Mapper:
    return fitted(algorithm, meta, tasks.batch([0]), Wanted(), train=False)
