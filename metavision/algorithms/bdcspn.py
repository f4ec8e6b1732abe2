"""Prototype rectification."""

from dataclasses import dataclass

from torch import Tensor

from metavision.algorithms.transductive import Transductive
from metavision.errors import InputError
from metavision.functional.distances import cosine
from metavision.functional.rectify import Rectified, rectified
from metavision.types import Examples, Inputs, Meta


@dataclass(frozen=True, eq=False, kw_only=True)
class BDCSPN(Transductive):
    """Cosines to prototypes that pseudo-labelled queries rectify, after a shift of the queries onto the support.

    Reference:
        Prototype Rectification for Few-Shot Learning (Liu et al., 2020), https://arxiv.org/abs/1911.10713

    Args:
        sharpness: of the weights; 10 in the paper.
        shift_queries: classify the queries as shifted, as in the paper; else as they are.
    """

    sharpness: float = 10.0
    shift_queries: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sharpness > 0:
            raise InputError(f"algo.sharpness is {self.sharpness}; it must be above 0")

    def adapt(self, meta: Meta, support: Examples, unlabelled: Inputs | None = None) -> Rectified:
        return rectified(*self.both(meta, support, unlabelled), self.sharpness)

    def predict(self, meta: Meta, task: Rectified, query: Inputs) -> Tensor:
        z = self.features(meta, query)
        return cosine(z + task.shift if self.shift_queries else z, task.prototypes)
