"""What an episode is made of."""

from dataclasses import asdict, dataclass
from typing import Literal

from metavision.errors import InputError

LEAST = {"way": 1, "shot": 1, "query": 1, "way_min": 2, "shot_min": 1, "unlabelled": 0, "distractors": 0}


@dataclass(frozen=True)
class EpisodeSpec:
    """The composition of an episode.

    Args:
        way: classes, k; the most, where their number varies.
        shot: support images a class; likewise.
        query: query images a class; likewise.
        sizes: `fixed`; `uniform`: way in [way_min, way] and shot in [shot_min, shot], for each episode; or
            `meta_dataset`: the way uniform in [way_min, way], up to `query` queries a class but at most half of the
            smallest class, and a support of up to 500 images whose classes differ in number, up to `shot` each.
        way_min: see `sizes`.
        shot_min: see `sizes`.
        balance: concentration of the Dirichlet distribution by which the way * query queries fall to the classes, as in
            Realistic Evaluation of Transductive Few-Shot Learning (Veilleux et al., 2021),
            https://arxiv.org/abs/2204.11181, where it is 2; None: `query` for each class.
        unlabelled: further images a class, without labels, for semi-supervised methods.
        distractors: further classes whose unlabelled images are mixed among these.
        hierarchy: `any` classes; classes `within` one group (alphabet, superclass, script); or `across`: each of
            another group.
    """

    way: int
    shot: int
    query: int
    sizes: Literal["fixed", "uniform", "meta_dataset"] = "fixed"
    way_min: int = 2
    shot_min: int = 1
    balance: float | None = None
    unlabelled: int = 0
    distractors: int = 0
    hierarchy: Literal["any", "within", "across"] = "any"

    def __post_init__(self) -> None:
        values = asdict(self)
        for name, least in LEAST.items():
            if values[name] < least:
                raise InputError(f"{name} is {values[name]}; an episode needs at least {least}")
        if self.balance is not None and not self.balance > 0:
            raise InputError(f"balance is {self.balance}; it must be above 0")
        if self.sizes != "fixed" and (self.way_min > self.way or self.shot_min > self.shot):
            raise InputError(
                f"way_min={self.way_min}, shot_min={self.shot_min} must not be above way={self.way}, shot={self.shot}"
            )
        if self.distractors and not self.unlabelled:
            raise InputError(
                f"distractors is {self.distractors}, but unlabelled is 0, so there is nothing to mix them with"
            )

    def __str__(self) -> str:
        return f"{self.way}-way {self.shot}-shot {self.query}-query"

    @property
    def varied(self) -> str:
        """What differs from an ordinary episode, as text; empty for an ordinary one."""
        plain = asdict(EpisodeSpec(self.way, self.shot, self.query))
        return " ".join(f"{name}={value}" for name, value in asdict(self).items() if value != plain[name])

    @property
    def padded(self) -> bool:
        """Whether episodes differ in size, so that a batch of them needs padding."""
        return self.sizes != "fixed" or self.balance is not None
