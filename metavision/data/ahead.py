"""Draws made ahead: one draw of many episodes takes little longer than that of one."""

import numpy as np

from metavision.data.episodes import Draw, Rows, Sampler

BLOCK = 64  # episodes drawn together


class Ahead:
    """The episodes of a sampler, asked for in small batches of neighbours.

    Args:
        sampler: of episodes of one size; with others it is simply asked, since they are padded by batch.
    """

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self._number = -1
        self._block: Draw | None = None

    def __getitem__(self, i: np.ndarray) -> Draw:
        number = int(i[0]) // BLOCK
        endless = not hasattr(self.sampler, "__len__")
        if self.sampler.spec.padded or not endless or not len(i) < BLOCK or (i // BLOCK != number).any():
            return self.sampler[i]
        if self._block is None or number != self._number:
            self._block = self.sampler[range(number * BLOCK, (number + 1) * BLOCK)]
            self._number = number
        return _chosen(self._block, (i % BLOCK).astype(np.int64))


def _chosen(draw: Draw, place: np.ndarray) -> Draw:
    def rows(of: Rows) -> Rows:
        return Rows(of.image[place], of.label[place], None)

    unlabelled = None if draw.unlabelled is None else rows(draw.unlabelled)
    return Draw(rows(draw.support), rows(draw.query), unlabelled, draw.classes[place])
