"""Nearest class means on normalised features."""

from dataclasses import dataclass

from torch import Tensor

from metavision.algorithms.pretraining import Pretrained
from metavision.functional.distances import squared_euclidean
from metavision.functional.prototypes import prototypes
from metavision.types import Examples, Inputs, Meta


@dataclass(frozen=True, eq=False, kw_only=True)
class SimpleShot(Pretrained):
    """The nearest class mean, by features that are centred on the training images and made to norm 1 (CL2N).

    Reference:
        SimpleShot: Revisiting Nearest-Neighbor Classification for Few-Shot Learning (Wang et al., 2019),
        https://arxiv.org/abs/1911.04623. `algo.centre` and `algo.unit` off: its plain and L2N variants.

    Differs in that the centre is the mean of `engine.calibration_images` training images, not of all.
    """

    def adapt(self, meta: Meta, support: Examples, unlabelled: Inputs | None = None) -> Tensor:  # noqa: ARG002
        """Class means (k, d)."""
        return prototypes(self.features(meta, support.inputs), support.y, self.problem.way, support.mask)

    def predict(self, meta: Meta, task: Tensor, query: Inputs) -> Tensor:
        return -squared_euclidean(self.features(meta, query), task)
