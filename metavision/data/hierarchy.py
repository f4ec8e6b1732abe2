"""Which classes come together in an episode: any, those of one group, or each of another."""

import numpy as np

from metavision.data.draws import distinct, integers
from metavision.data.source import Source
from metavision.data.spec import EpisodeSpec
from metavision.errors import InputError


class ClassSampler:
    """Draws the classes of episodes.

    Raises:
        InputError: there are too few, or they have no groups.
    """

    def __init__(self, source: Source, spec: EpisodeSpec) -> None:
        here, n = f"{source.name} {source.split}", len(source.classes)
        self.hierarchy = "within" if source.mixed else spec.hierarchy
        if self.hierarchy != "any" and source.groups is None:
            raise InputError(f"hierarchy is {spec.hierarchy}, but the classes of {here} have no groups")
        # One group of all classes, where groups do not matter.
        names = np.array(source.groups if self.hierarchy != "any" and source.groups else [""] * n)
        groups, of_class = np.unique(names, return_inverse=True)
        self.members = np.argsort(of_class, kind="stable")
        self.size = np.bincount(of_class, minlength=len(groups))
        self.start = np.cumsum(self.size) - self.size
        need = (spec.way if spec.sizes != "meta_dataset" else spec.way_min) + spec.distractors
        if self.hierarchy == "across":
            self.eligible, largest = np.arange(len(groups)), len(groups)
        else:
            self.eligible, largest = np.flatnonzero(self.size >= need), int(self.size.max())
        if largest < need:
            what = {
                "any": f"{need} classes; {here} has {n}",
                "within": f"{need} classes of one group; the largest of {here} has {largest}",
                "across": f"{need} groups of classes; {here} has {largest}",
            }[self.hierarchy]
            raise InputError(f"{spec.way}-way episodes need {what}")
        self.most = min(spec.way, largest - spec.distractors)  # labelled classes of any episode
        self.k = self.most + spec.distractors

    def draw(self, words: np.ndarray, more: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Classes (T, k), and how many of them may have labels (T,): those of a small group are fewer.

        Args:
            words: (T, k) random words.
            more: (T, k) others.
        """
        if self.hierarchy == "across":
            group = distinct(words, np.full((len(words), 1), len(self.eligible)))
            place = integers(more, self.size[group])
            return self.members[self.start[group] + place], np.full(len(words), self.most)
        group = self.eligible[integers(more[:, 0], len(self.eligible))]
        place = distinct(words, self.size[group][:, None])
        place = np.minimum(place, self.size[group][:, None] - 1)  # beyond the size of a small group, and not used
        distractors = self.k - self.most
        return self.members[self.start[group][:, None] + place], np.minimum(self.size[group] - distractors, self.most)
