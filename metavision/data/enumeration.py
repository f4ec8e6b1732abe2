"""Episodes without replacement: every image of a split is used once at most."""

import numpy as np

from metavision.data.draws import distinct, random_words
from metavision.data.episodes import Draw, Index, Rows
from metavision.data.source import Source
from metavision.data.spec import EpisodeSpec
from metavision.errors import InputError
from metavision.seeds import seed


class Enumeration:
    """As many episodes as the images of a split allow, no image in two of them.

    Intervals over episodes that share images are about the sampler, not about the data, and too narrow:
    Oops, I Sampled it Again (Lafargue et al., 2024), https://arxiv.org/abs/2409.02850. Every class is cut, at random,
    into portions of a support and queries; an episode takes one of each of `way` classes, of those with most left.

    Args:
        source: what to draw from; no pixel of it is read.
        spec: composition, of fixed sizes.
        seed: names the list.

    Raises:
        InputError: the sizes vary, or there are too few classes or images for a single episode.
    """

    def __init__(self, source: Source, spec: EpisodeSpec, *, seed: int) -> None:
        if spec.varied:
            raise InputError(f"episodes without replacement are of fixed sizes, without {spec.varied}")
        self.source, self.spec, self.seed = source, spec, seed
        self._draw = self._drawn()

    @property
    def key(self) -> int:
        s = self.spec
        names = ("enumeration", self.source.fingerprint, self.source.split, s.way, s.shot, s.query, self.seed)
        return seed(*names)

    def __len__(self) -> int:
        return len(self._draw.classes)

    def __getitem__(self, i: Index) -> Draw:
        index = np.asarray(i, dtype=np.int64)
        support, query = (Rows(rows.image[index], rows.label[index], None) for rows in self._draw[:2])
        return Draw(support, query, None, self._draw.classes[index])

    def _drawn(self) -> Draw:
        spec, (order, start, count) = self.spec, self.source.by_class
        each = spec.shot + spec.query
        left = count // each
        if (left > 0).sum() < spec.way:
            raise InputError(
                f"{spec} episodes without replacement need {each} images of each of {spec.way} classes; "
                f"{self.source.name} {self.source.split} has {(left > 0).sum()} such classes"
            )
        shuffled = [self._shuffled(c, n)[: left[c] * each].reshape(-1, each) for c, n in enumerate(count)]
        classes: list[np.ndarray] = []
        images: list[np.ndarray] = []
        while (left > 0).sum() >= spec.way:
            ties = random_words(self.key, np.array([len(classes)]), len(left))[0]
            chosen = np.lexsort((ties, -left))[: spec.way]
            chosen = chosen[np.argsort(ties[chosen])]  # labels are given at random too
            left[chosen] -= 1
            classes.append(chosen)
            images.append(np.stack([order[start[c] + shuffled[c][left[c]]] for c in chosen]))
        support, query = (self._rows(part) for part in np.split(np.stack(images), [spec.shot], axis=2))
        return Draw(support, query, None, np.stack(classes))

    def _shuffled(self, c: int, n: int) -> np.ndarray:
        words = random_words(seed("portions", self.key, c), np.zeros(1, np.uint64), n)
        return distinct(words, np.full((1, 1), n))[0]

    def _rows(self, images: np.ndarray) -> Rows:
        tasks, way, each = images.shape
        label = np.broadcast_to(np.repeat(np.arange(way), each), (tasks, way * each))
        return Rows(images.reshape(tasks, -1), label, None)
