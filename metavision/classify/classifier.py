"""A classifier: a network, a head, and the support that it was made of."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from metavision import trees
from metavision.classify import file, heads
from metavision.classify.calibrating import temperature
from metavision.classify.familiarity import likelihood, neighbours, typical
from metavision.classify.heads.base import Head
from metavision.classify.heads.own import Own
from metavision.classify.holding_out import HeldOut, held_out
from metavision.classify.network import Network, rebuilt
from metavision.classify.packing import packed, unpacked
from metavision.engine import device as devices
from metavision.errors import InputError
from metavision.types import Meta, P

Images = Tensor | np.ndarray | str | Path | Sequence[str | Path]


class Support(NamedTuple):
    """What a classifier was made of, by class and name: enough to make it again without the images' files.

    Args:
        classes: their names, sorted.
        names: (n,) of the files.
        y: (n,) int64, in rising order.
        z: features (n, d).
        pixels: (n, C, H, W) uint8 where the head sees images; else None.
    """

    classes: tuple[str, ...]
    names: tuple[str, ...]
    y: Tensor
    z: Tensor
    pixels: Tensor | None = None


class Answers(NamedTuple):
    """About q images.

    Args:
        probabilities: (q, k), calibrated where images could be held out.
        cosines: (q, m) of the nearest images of the support, the nearest first.
        nearest: (q, m), which these are.
        familiar: (q,) the share of images like the support that would be no nearer to it.
    """

    probabilities: Tensor
    cosines: Tensor
    nearest: Tensor
    familiar: Tensor


@dataclass(frozen=True, eq=False)
class Classifier:
    """Made by `metavision.adapt`, kept in one file. Conventions are scikit-learn's, as far as they fit.

    Args:
        network: images to features.
        head: its settings.
        task: what the head learned of the support.
        support: that.
        typical: (n,) how near its images are to each other, see `familiarity.typical`.
        temperature: logits are divided by it.
        unknown: an image counts as unknown where at most this share of images like the support would be as far from it.
        card: JSON of what else is known: where it comes from, the estimate of its accuracy.
    """

    network: Network
    head: Head
    task: Any
    support: Support
    typical: Tensor
    temperature: float = 1.0
    unknown: float = 0.05
    card: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def fit(
        cls, network: Network, head: Head, support: Support, unknown: float = 0.05, folds: int | None = None
    ) -> tuple[Self, HeldOut | None]:
        """A classifier of a support, and the held-out answers that its temperature is of; none with `folds=0`."""
        k = len(support.classes)
        x = _seen(network, head, support)
        head = head.suited(x)
        out = None if folds == 0 else held_out(head, x, support.y, k, folds, shown=head.sees)
        t = 1.0 if out is None else temperature(out.logits, support.y[out.rows], len(out.rows) // out.times)
        return cls(network, head, head.fit(x, support.y, k), support, typical(support.z), t, unknown), out

    def seen(self) -> Tensor:
        """What the head was given of the support: features (n, d), or images (n, C, H, W) as numbers."""
        return _seen(self.network, self.head, self.support)

    @property
    def classes_(self) -> np.ndarray:
        """Names (k,), in the order of the columns of `predict_proba`."""
        return np.array(self.support.classes)

    def answers(self, pixels: Tensor, m: int = 3) -> Answers:
        """About images (q, C, H, W): bytes, or numbers in [0, 1], of the size that the network takes; m neighbours."""
        z = self.network.features(pixels)
        logits = self.head.logits(self.task, self.network.preparing.numbers(pixels) if self.head.sees else z)
        cosines, nearest = neighbours(z, self.support.z, max(m, 1))
        familiar = likelihood(cosines[:, 0], self.typical)
        return Answers((logits / self.temperature).softmax(1), cosines[:, :m], nearest[:, :m], familiar)

    def predict_proba(self, images: Images) -> np.ndarray:
        """Probabilities (n, k) of the classes, which know no `unknown`.

        Args:
            images: paths of files, or images (n, C, H, W) as a tensor or an array: bytes, or numbers in [0, 1].

        Raises:
            InputError: a file can't be read, or images are of another shape.
        """
        parts = [self.answers(some, 0).probabilities for some in self._batches(images)]
        return torch.cat(parts).numpy() if parts else np.empty((0, len(self.support.classes)))

    def predict(self, images: Images) -> np.ndarray:
        """The likeliest classes' names (n,); of what, see `predict_proba`."""
        return self.classes_[self.predict_proba(images).argmax(1)]

    def score(self, images: Images, labels: Iterable[str]) -> float:
        """The share of images whose class's name is told right."""
        return float((self.predict(images) == np.array([str(label) for label in labels])).mean())

    def pixels(self, paths: Sequence[str | Path]) -> Tensor:
        """Files as bytes (n, C, H, W), of the size that the network takes.

        Raises:
            InputError: one can't be read.
        """
        rows = []
        for path in paths:
            try:
                rows.append(self.network.preparing.pixels(Path(path)))
            except ValueError as error:
                raise InputError(f"{path} can't be read: {error}") from error
        return torch.from_numpy(np.stack(rows) if rows else np.empty((0, *self.network.preparing.shape), np.uint8))

    def save(self, path: str | Path) -> None:
        """Writes one file, whole or not at all."""
        meta = self._kept
        task, tensors = packed(self.task, "task")
        named = {
            **trees.under("params", meta.params),
            **trees.under("buffers", meta.buffers),
            **trees.under("statistics", self.network.statistics or {}),
            **tensors,
            "support/y": self.support.y,
            "support/z": self.support.z,
            "support/typical": self.typical,
            **({} if self.support.pixels is None else {"support/pixels": self.support.pixels}),
        }
        about = {
            "card": dict(self.card),
            "classes": list(self.support.classes),
            "support": list(self.support.names),
            "network": self.network.as_dict(),
            "head": {"name": self.head.name, "settings": self.head.settings()},
            "task": task,
            "temperature": self.temperature,
            "unknown": self.unknown,
        }
        file.save(Path(path), about, _apart(named))

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> Self:
        """Reads what `save` wrote.

        Raises:
            InputError: there is no such file, it is no classifier, was changed since, or is of a newer version.
        """
        about, tensors = file.read(Path(path))
        try:
            return cls._of(about, tensors).on(device)
        except (KeyError, TypeError, AttributeError, ImportError) as error:
            raise InputError(f"{path} does not fit this program: {type(error).__name__}: {error}") from error

    @classmethod
    def _of(cls, about: dict[str, Any], tensors: P) -> Self:
        meta = Meta(trees.select(tensors, "params"), trees.select(tensors, "buffers"))
        network = rebuilt(about["network"], meta, trees.select(tensors, "statistics") or None)
        name, settings = about["head"]["name"], about["head"]["settings"]
        head = network.own() if name == Own.name else heads.KINDS[name](**settings)
        y, z, pixels = tensors["support/y"], tensors["support/z"], tensors.get("support/pixels")
        support = Support(tuple(about["classes"]), tuple(about["support"]), y, z, pixels)
        kept = (
            unpacked(about["task"], tensors),
            support,
            tensors["support/typical"],
            about["temperature"],
            about["unknown"],
        )
        return cls(network, head, *kept, about["card"])

    def on(self, device: str) -> Self:
        """The same, with its network on a device: auto, cpu, cuda."""
        place = devices.resolve(device)
        network = self.network.on(place)
        if not isinstance(self.head, Own) or not self.head.sees:
            return replace(self, network=network)
        return replace(self, network=network, head=self.head.on(place), task=trees.to(self.task, place))

    @cached_property
    def _kept(self) -> Meta:
        """The weights that answering takes: of a run's own head all, else the backbone's."""
        if isinstance(self.head, Own):
            return self.network.meta
        parts = ({name: t for name, t in part.items() if name.startswith("backbone.")} for part in self.network.meta)
        return Meta(*parts)

    def _batches(self, images: Images) -> Iterable[Tensor]:
        if isinstance(images, str | Path):
            images = [images]
        if isinstance(images, Tensor | np.ndarray):
            whole = torch.as_tensor(images)
            yield from whole.split(BATCH) if len(whole) else ()
            return
        for start in range(0, len(images), BATCH):
            yield self.pixels(images[start : start + BATCH])


BATCH = 64  # images that are read and answered together


def _seen(network: Network, head: Head, support: Support) -> Tensor:
    if not head.sees:
        return support.z
    assert support.pixels is not None  # kept for such heads
    return network.preparing.numbers(support.pixels)


def _apart(named: P) -> P:
    """No two names may share memory in a safetensors file."""
    seen: set[int] = set()
    return {name: t.clone() if t.data_ptr() in seen or seen.add(t.data_ptr()) else t for name, t in named.items()}  # type: ignore[func-returns-value]
