"""Sines to regress: the correctness test of inner loops."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from metavision.data.draws import random_words, uniform
from metavision.data.source import pick
from metavision.data.spec import EpisodeSpec
from metavision.types import Episode, Examples

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Sinusoid:
    """y = a sin(x - b) at points x in [-5, 5], for a in [0.1, 5] and b in [0, pi], each uniformly drawn for each task.

    Reference:
        Model-Agnostic Meta-Learning (Finn et al., 2017), https://arxiv.org/abs/1703.03400, section 5.1.
    """

    name: ClassVar[str] = "sinusoid"
    shape: ClassVar[tuple[int, ...]] = (1,)

    def source(self, split: str) -> "Sines":
        return pick({name: Sines(name) for name in SPLITS}, split, self.name)


@dataclass(frozen=True)
class Sines:
    """A split: other draws of the same functions.

    Args:
        split: train, val or test.
    """

    split: str

    name: ClassVar[str] = "sinusoid"
    fingerprint: ClassVar[str] = "sines-1"
    classes: ClassVar[tuple[str, ...]] = ()
    class_hashes: ClassVar[list[str]] = []
    class_keys: ClassVar[tuple[str, ...]] = ()
    shared: ClassVar[bool] = False

    def task(self, spec: EpisodeSpec, key: int, i: int) -> Episode:
        """x (shot, 1) and y (shot, 1) of the support, and as many queries as asked for."""
        n = spec.shot + spec.query
        numbers = uniform(random_words(key, np.array([i]), 2 + n))[0]
        a, b, x = 0.1 + 4.9 * numbers[0], np.pi * numbers[1], 10 * numbers[2:, None] - 5
        y = a * np.sin(x - b)
        x, y = (torch.from_numpy(part).to(torch.get_default_dtype()) for part in (x, y))
        return Episode(Examples(x[: spec.shot], y[: spec.shot]), Examples(x[spec.shot :], y[spec.shot :]))
