"""What episodes tell about classes: precision, recall, F1, and an interval over other classes.

Legend: n episodes, k ways, C classes of the split.
"""

from typing import Any, NamedTuple

import numpy as np

from metavision.records.statistics import Estimate, interval


class Confusion(NamedTuple):
    """Who was taken for whom.

    Args:
        counts: (n, k, k), queries of a label (row) that were given another (column), by episode.
        classes: (n, k), the class behind each label, from 0 to C - 1; -1 where there is none.
        size: C.
    """

    counts: np.ndarray
    classes: np.ndarray
    size: int

    def matrix(self) -> np.ndarray:
        """(C, C): over all episodes, how often a class (row) was taken for another (column)."""
        return self._summed(self.counts)

    def met(self) -> np.ndarray:
        """(C, C): over all episodes, how many queries of a class (row) could have been taken for another (column)."""
        return self._summed(np.broadcast_to(self.counts.sum(2, keepdims=True), self.counts.shape))

    def _summed(self, values: np.ndarray) -> np.ndarray:
        there = self.classes >= 0
        both = there[:, :, None] & there[:, None, :]
        place = self.classes[:, :, None].astype(np.int64) * self.size + self.classes[:, None, :]
        return np.bincount(place[both], values[both], self.size**2).reshape(self.size, self.size)


def by_class(confusion: Confusion, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Precision, recall and F1 of every class that was asked about, with intervals over episodes.

    Each is a ratio of sums over the episodes that tell of it; its interval is that of its linearisation over these (see
    `statistics.ratio`), and nan where there is one: it is given how many they are, which is chance and no part of the
    figure.
    """
    counts, classes = confusion.counts.astype(np.float64), confusion.classes
    there = classes >= 0
    of = classes[there]
    right = np.diagonal(counts, axis1=1, axis2=2)[there]
    asked, answered = counts.sum(2)[there], counts.sum(1)[there]
    ratios = {
        "precision": _ratios(right, answered, of, confusion.size),
        "recall": _ratios(right, asked, of, confusion.size),
        "f1": _ratios(2 * right, asked + answered, of, confusion.size),
    }
    queries = np.bincount(of, asked, confusion.size)
    return [
        {"class": names[c], "queries": int(queries[c]), **{name: found[c].as_dict() for name, found in ratios.items()}}
        for c in np.flatnonzero(queries)
    ]


def _ratios(above: np.ndarray, below: np.ndarray, of: np.ndarray, size: int) -> list[Estimate]:
    """sum(above) / sum(below) of every class, where `of` names the class of each value, which is an episode's."""

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(of, values, size)

    with np.errstate(invalid="ignore", divide="ignore"):
        means, n = total(above) / total(below), total(below > 0)
        rest = above - means[of] * below  # its mean over the n episodes is 0
        errors = np.sqrt(total(rest**2) / (n - 1) * n) / total(below)
    found = zip(means, errors, n, strict=True)
    return [interval(float(mean), float(error), n - 1, int(n), "episodes") for mean, error, n in found]


def over_classes(values: np.ndarray, classes: np.ndarray) -> Estimate:
    """The mean of a figure of episodes, with an interval over other classes of the same kind.

    An episode's figure depends on all of its classes: an error has who was asked about and who was answered. So the
    mean is projected on single classes: with b_c what a class adds to the figure of an episode that it is in, the mean
    over all sets of k classes is linear in the b_c to first order, and a draw of C other classes would move it by
    k sd(b) / sqrt(C). That is the cluster bootstrap's deviation, in closed form, less what is in b_c by the chance of
    the episodes, which would count twice. To resample whole episodes by their classes, or errors by the class asked
    about, is wrong by far more (see the simulations in the tests): the former is too wide, the latter too narrow.

    Reference:
        A Class of Statistics with Asymptotically Normal Distribution (Hoeffding, 1948), for the projection.

    Classes are taken to be drawn one by one: of episodes within superclasses it would say too much.

    Args:
        values: (n,) such as accuracies, or differences of two runs.
        classes: (n, k), -1 where there is none.

    Returns:
        nan as half-width, where every episode has all classes, or where no class was met twice.
    """
    n, there = len(values), classes >= 0
    of = classes[there]
    y = np.broadcast_to((values - values.mean())[:, None], classes.shape)[there]
    met, total, squares = (np.bincount(of, v) for v in (None, y, y**2))
    size, way, often = int((met > 0).sum()), there.sum() / n, met > 1
    met, total, squares = met[often], total[often], squares[often]
    error = float("nan")
    if size > way and len(met) > 1:
        means = total / met
        chance = ((squares - met * means**2) / (met - 1) / met * (1 - met / n)).mean()
        # Among C classes, the others of an episode that has class c are not c, which pulls its mean to the middle.
        added = max(float(np.var(means, ddof=1)) - chance, 0) * ((size - 1) / (size - way)) ** 2
        error = (way**2 * added / size + float(np.var(values, ddof=1)) / n) ** 0.5
    return interval(float(values.mean()), error, size - 1, size, "classes")
