"""The values that algorithms and engine exchange.

Legend of shapes, used everywhere: T tasks, S support examples, Q query examples, n examples, k ways (classes of
an episode), d features, C x H x W an image, P a parameter tree (a flat dict from name to tensor).

An algorithm sees one task. A batch of tasks is the same value with a leading T on every tensor.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

P = dict[str, Tensor]


class Inputs(NamedTuple):
    """Images without labels."""

    x: Tensor  # (n, C, H, W) float
    mask: Tensor | None = None  # (n,) bool, False on padding; None: no padding


class Examples(NamedTuple):
    """Images with labels."""

    x: Tensor  # (n, C, H, W) float
    y: Any  # (n,) int64, class in [0, k)
    mask: Tensor | None = None  # (n,) bool, False on padding; None: no padding

    @property
    def inputs(self) -> Inputs:
        return Inputs(self.x, self.mask)


class Episode(NamedTuple):
    """A task: what to learn from and what to be asked about."""

    support: Examples
    query: Examples
    unlabelled: Inputs | None = None  # of a semi-supervised episode


CARRIED = "carried"  # see Meta


class Meta(NamedTuple):
    """What meta-training learns.

    Parameters under `carried.` go on from step to step as tasks leave them, without the outer optimizer: their part of
    the meta-gradient is what is taken off them.
    """

    params: P  # moved by the outer optimizer, or carried
    buffers: P  # carried along: statistics under the names of modules, and what else was found once, under its own

    def without_statistics(self) -> "Meta":
        """The same but for the statistics of normalisation."""
        return Meta(self.params, {name: t for name, t in self.buffers.items() if "." not in name})


Metrics = dict[str, Tensor]  # scalars of one task


def joined(a: Examples, b: Examples) -> Examples:
    """The examples of both."""
    mask = None
    if a.mask is not None or b.mask is not None:
        masks = (torch.ones_like(part.y, dtype=torch.bool) if part.mask is None else part.mask for part in (a, b))
        mask = torch.cat(list(masks))
    return Examples(torch.cat([a.x, b.x]), torch.cat([a.y, b.y]), mask)
