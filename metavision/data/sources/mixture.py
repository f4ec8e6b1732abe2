"""Several data sets as one, every episode from one of them: training across domains, or testing on all at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from metavision.data.source import NoSplit, Source, Stack
from metavision.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Episodes draw a data set first, all with the same chance, then its classes.

    Reference:
        Meta-Dataset: A Dataset of Datasets for Learning to Learn from Few Examples (Triantafillou et al., 2020),
        https://arxiv.org/abs/1903.03096

    Args:
        parts: data sets by name; all must have images of one size and color.
    """

    parts: Mapping[str, Any]
    name: ClassVar = "mixture"

    def __post_init__(self) -> None:
        if not self.parts:
            raise InputError("data.parts names no data set; a mixture needs one at least")
        if len({part.shape for part in self.parts.values()}) > 1:
            shapes = ", ".join(f"{name} {'x'.join(map(str, part.shape))}" for name, part in self.parts.items())
            raise InputError(
                f"a mixture needs images of one shape, but there are {shapes}; set size and color, as in "
                f"data.parts.{next(iter(self.parts))}.size=84"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        return next(iter(self.parts.values())).shape

    def source(self, split: str) -> Source:
        """The split of all parts that have it."""
        found = self._sources(split)
        sources = list(found.values())
        offsets = np.cumsum([0, *(len(source.classes) for source in sources)])
        starts = np.cumsum([0, *(source.images.shape[0] for source in sources)])
        rows = [np.arange(len(s)) if s.rows is None else s.rows for s in sources]
        return Source(
            self.name,
            split,
            Stack([source.images for source in sources]),
            np.concatenate([source.labels + offset for source, offset in zip(sources, offsets, strict=False)]),
            tuple(f"{source.name}/{name}" for source in sources for name in source.classes),
            rows=np.concatenate([row + start for row, start in zip(rows, starts, strict=False)]),
            digests=np.concatenate([source.hashes for source in sources]),
            groups=tuple(part for part, source in found.items() for _ in source.classes),
            keys=tuple(key for source in sources for key in source.class_keys),
            mixed=True,
            shared=all(source.shared for source in sources),
            partly=_known(sources),
        )

    def _sources(self, split: str) -> dict[str, Source]:
        found, refusals = {}, []
        for name, part in self.parts.items():
            try:
                found[name] = part.source(split)
            except NoSplit as error:
                refusals.append(str(error))
        if not found:
            raise NoSplit("; ".join(refusals))
        return found


def _known(sources: Sequence[Source]) -> frozenset[str]:
    """Keys of the classes that are the same in all splits, of all parts that have them."""
    new = {key for source in sources for key in source.class_keys if key not in source.known}
    return frozenset().union(*(source.known for source in sources)) - new
