"""The contract of a backbone."""

from torch import Tensor, nn


class Backbone(nn.Module):
    """Images to features: (n, C, H, W) -> (n, d), called as a pure function of its parameters.

    Attributes:
        features: d.
        norm: the normalisation policy, see `metavision.nn.normalisation`.
    """

    features: int
    norm: str

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        raise NotImplementedError
