"""Tasks met again with other supports: how much a result owes to the luck of its few examples."""

import numpy as np

from metavision.data.draws import distinct, random_words
from metavision.data.episodes import Draw, EpisodeSampler, Index, Rows, first
from metavision.errors import InputError
from metavision.seeds import seed


class Supports:
    """Every task of a sampler `each` times: classes and queries stay, the support is drawn anew from the other images.

    Episode i is task i // each; its first support is the task's own.

    Args:
        sampler: of the tasks.
        each: supports a task.

    Raises:
        InputError: the sizes of the episodes vary, or they leave no image of some class to draw others from.
    """

    def __init__(self, sampler: EpisodeSampler, each: int) -> None:
        if sampler.spec.varied:
            raise InputError(f"supports={each} takes episodes of fixed sizes, without {sampler.spec.varied}")
        self.sampler, self.each = sampler, each
        self.source, self.spec, self.seed = sampler.source, sampler.spec, sampler.seed
        self._order, self._start, self._count = self.source.by_class
        spare = int(self._count.min()) - self.spec.query - self.spec.shot
        if spare < 1:
            smallest = self.source.classes[int(self._count.argmin())]
            raise InputError(f"there is no other support: {self.spec} episodes take all images of class {smallest}")
        self._place = np.empty_like(self._order)
        self._place[self._order] = np.arange(len(self._order))

    @property
    def key(self) -> int:
        return seed("supports", self.sampler.key, self.each)

    def __getitem__(self, i: Index) -> Draw:
        index = np.atleast_1d(np.asarray(i, dtype=np.uint64))
        task = self.sampler[index // np.uint64(self.each)]
        spec, tasks, classes = self.spec, len(index), task.classes
        start, count = self._start[classes][..., None], self._count[classes] - spec.query
        asked = np.sort(self._place[task.query.image.reshape(tasks, spec.way, spec.query)] - start, axis=2)
        words = random_words(seed("supports", self.sampler.key), index, spec.way * spec.shot)
        drawn = distinct(words.reshape(-1, spec.shot), count.reshape(-1, 1)).reshape(tasks, spec.way, spec.shot)
        for j in range(spec.query):  # numbers among the images that are not asked about, as places among all
            drawn += drawn >= asked[..., j : j + 1]
        image = self._order[start + drawn].reshape(tasks, -1)
        own = (index % np.uint64(self.each) == 0)[:, None]
        support = Rows(np.where(own, task.support.image, image), task.support.label, None)
        draw = Draw(support, task.query, None, classes)
        return first(draw) if np.ndim(i) == 0 else draw
