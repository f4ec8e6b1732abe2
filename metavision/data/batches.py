"""From drawn indices to tensors on the device."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from metavision.data.episodes import EpisodeSampler
from metavision.types import Episode, Examples


class Episodes:
    """Batches of tasks from a source that is held on the device, as bytes.

    Args:
        sampler: decides what is in an episode.
        device: where the images live and the batches appear.
    """

    def __init__(self, sampler: EpisodeSampler, device: torch.device) -> None:
        self.sampler = sampler
        self.images = torch.from_numpy(np.array(sampler.source.images)).to(device)

    def batch(self, indices: Sequence[int]) -> Episode:
        """Episodes `indices` as T tasks: x (T, k * shot, C, H, W) in [0, 1], y (T, k * shot)."""
        draw = self.sampler[list(indices)]
        return Episode(self._examples(draw.support), self._examples(draw.query))

    def pool(self, n: int) -> Tensor:
        """n images (n, C, H, W) of the split, evenly spread over it: what statistics are calibrated on."""
        chosen = torch.linspace(0, len(self.images) - 1, min(n, len(self.images)), dtype=torch.float64)
        return to_float(self.images[chosen.long().to(self.images.device)])

    def _examples(self, rows: np.ndarray) -> Examples:
        tasks, way, each = rows.shape
        device = self.images.device
        x = self.images[torch.from_numpy(rows.reshape(-1)).to(device)]
        y = torch.arange(way, device=device).repeat_interleave(each).expand(tasks, -1)
        return Examples(to_float(x).view(tasks, way * each, *x.shape[1:]), y)


def to_float(images: Tensor) -> Tensor:
    """Bytes to numbers in [0, 1]."""
    return images.to(torch.get_default_dtype()) / 255
