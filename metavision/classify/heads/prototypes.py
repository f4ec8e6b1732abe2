"""The nearest class mean."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from metavision.classify.heads.base import Linear, OfFeatures, one_hot
from metavision.functional.distances import squared_euclidean
from metavision.functional.prototypes import prototypes


@dataclass(frozen=True)
class Prototypes(OfFeatures):
    """Minus the squared distance to every class's mean.

    Reference:
        Prototypical Networks for Few-shot Learning (Snell et al., 2017), https://arxiv.org/abs/1703.05175; features of
        norm 1 as in SimpleShot (Wang et al., 2019), https://arxiv.org/abs/1911.04623.

    Args:
        scale: of the logits, where nothing could be held out to calibrate them.
    """

    name: ClassVar[str] = "prototypes"
    scale: float = 3.0

    def fit(self, x: Tensor, y: Tensor, k: int) -> Tensor:
        """Prototypes (k, d)."""
        return prototypes(self.scaled(x), y, k)

    def logits(self, task: Tensor, x: Tensor) -> Tensor:
        return -self.scale * squared_euclidean(self.scaled(x), task)

    def affine(self, task: Tensor) -> Linear:
        """|x|^2, which is the same for all classes, is left off."""
        return Linear(2 * self.scale * task.T, -self.scale * task.square().sum(1))

    def representers(self, task: Tensor, x: Tensor, y: Tensor, k: int) -> Tensor:  # noqa: ARG002
        """An equal share of its class's mean, less that of the mean over all classes."""
        labels = one_hot(y, k)
        return 2 * self.scale * (labels - 1 / k) / labels.sum(0)[y][:, None]

    def held_out(self, x: Tensor, y: Tensor, k: int) -> Tensor:
        """Without x_i, its class's mean is n_c / (n_c - 1) as far from it.

        Without one image of another class, the squared distance to that class's mean is on average larger by
        s / (n_c - 1)^2, where s is the variance within the class.
        """
        z = self.scaled(x)
        means, labels = prototypes(z, y, k), one_hot(y, k)
        count = labels.sum(0)
        rest = (count - 1).clamp_min(1)  # of one image, none is left out
        variance = labels.T @ (z - means[y]).square().sum(1) / count
        distances = squared_euclidean(z, means)
        own = distances.gather(1, y[:, None]) * (count / rest).square()[y][:, None]
        return -self.scale * (distances + variance / rest.square()).scatter(1, y[:, None], own)
