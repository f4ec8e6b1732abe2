"""The contract of a head: what turns a labelled support into an answer for a new image.

As an algorithm, it is settings and pure functions; what it learned is a value that is passed in. A fit is a function
of the support alone, so a class that is added or taken away means another fit to what is kept, and no image is
embedded anew.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor


class Linear(NamedTuple):
    """Weights of an affine map of features."""

    weight: Tensor  # (d, k)
    bias: Tensor  # (k,)


class Head(ABC):
    """Settings of a head, in a frozen dataclass.

    Legend: n images of the support, k classes, d features; x stands for features (n, d), or for images (n, C, H, W)
    where a head `sees`.
    """

    name: ClassVar[str]
    sees: bool = False  # whether it takes images, and not their features
    chooses: bool = False  # whether a fit tries several trainings

    @abstractmethod
    def fit(self, x: Tensor, y: Tensor, k: int) -> Any:
        """What the support teaches, a pytree of tensors: y (n,) in [0, k), in which every class occurs."""

    @abstractmethod
    def logits(self, task: Any, x: Tensor) -> Tensor:
        """(n, k) float64, from what `fit` returned."""

    def held_out(self, x: Tensor, y: Tensor, k: int) -> Tensor | None:  # noqa: ARG002
        """Row i: the logits (n, k) of x_i by a support without x_i, and without one image of every other class.

        Their mean over which ones these are, where it has a closed form. That of an image which is alone in its class
        means nothing.
        """
        return None

    def suited(self, x: Tensor) -> Self:  # noqa: ARG002
        """The same head with settings that go by the scale of the support x, whose labels have no say."""
        return self

    def check(self, k: int) -> None:  # noqa: B027 - most can
        """Raises InputError unless the head can tell k classes apart."""

    def settings(self) -> dict[str, Any]:
        """As JSON, from which the head can be made again."""
        return dict(vars(self))


@dataclass(frozen=True)
class OfFeatures(Head):
    """A head on features of norm 1, all of which are then divided by one number.

    Networks differ in how much their features have in common: cosines of two images are near 0.3 for one and near 0.98
    for another. Divided by the root of `spread`, a penalty or a scale means the same for all of them.

    Args:
        spread: mean squared distance of the support's features from their mean.
    """

    spread: float = 1.0

    def suited(self, x: Tensor) -> Self:
        z = unit(x)
        return replace(self, spread=max(float((z - z.mean(0)).square().sum(1).mean()), LEAST_SPREAD))

    def scaled(self, x: Tensor) -> Tensor:
        """Features (n, d) as the head takes them."""
        return unit(x) / self.spread**0.5

    @abstractmethod
    def affine(self, task: Any) -> Linear:
        """The map of scaled features that tells apart as `logits` does: the same but for a number for each image."""

    @abstractmethod
    def representers(self, task: Any, x: Tensor, y: Tensor, k: int) -> Tensor:
        """(n, k): how the weights of `affine` are made of the support (x, y) that was fitted.

        The weights are `scaled(x).T @ representers`, but for a column that all classes have in common. Every column
        sums to 0, so features may be counted from anywhere.
        """


LEAST_SPREAD = 1e-9  # of features that are all the same, which no scale can tell apart


def unit(z: Tensor) -> Tensor:
    """Features (n, d) of norm 1, in double precision: adding a class is then exact."""
    return F.normalize(z.to(torch.float64), dim=-1)


def one_hot(y: Tensor, k: int) -> Tensor:
    """(n, k) float64."""
    return F.one_hot(y, k).to(torch.float64)


def balanced(y: Tensor, k: int) -> Tensor:
    """(n,) weights by which all classes count the same, with a mean of 1.

    How many images of a class somebody has labelled says nothing of how many there will be.
    """
    count = torch.bincount(y, minlength=k)
    return (len(y) / k / count.to(torch.float64))[y]


def span(z: Tensor) -> Tensor | None:
    """An orthonormal basis (d, n) of the features' span, where n < d: the best weights lie in it."""
    return torch.linalg.qr(z.T).Q if len(z) < z.shape[1] else None
