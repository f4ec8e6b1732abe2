"""Convolutions of residual networks."""

from torch import nn


class Conv(nn.Conv2d):
    """A convolution without offsets, for what a normalisation follows, drawn so that variances last through ReLUs.

    Reference:
        Delving Deep into Rectifiers (He et al., 2015), https://arxiv.org/abs/1502.01852: normal, by the outputs.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, kernel // 2, bias=False)

    def reset_parameters(self) -> None:
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
