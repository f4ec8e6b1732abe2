"""Gradient descent along gradients that are bent by learned matrices."""

from dataclasses import dataclass

import torch
from torch import Tensor

from metavision.rules.sgd import SGD
from metavision.types import P


@dataclass(frozen=True)
class Curvature(SGD):
    """params - lr * MC(grads), with a learned matrix for each side of a weight: outputs, inputs, and kernel pixels.

    Reference:
        Meta-Curvature (Park and Oliva, 2019), https://arxiv.org/abs/1902.03356: for a convolution's gradient of shape
        (outputs, inputs, pixels), MC(G) is G times M_o, M_i and M_f along these three sides. A tensor of one side, such
        as a bias, has a learned factor for each number.

    All matrices begin as identities, so that training begins as MAML.

    Args:
        lr: inner learning rate.
    """

    def init(self, params: P, generator: torch.Generator) -> P:  # noqa: ARG002 - it draws nothing
        learned: P = {}
        for name, p in params.items():
            if p.ndim == 1:
                learned[f"{name}.factor"] = torch.ones_like(p)
            for i, side in enumerate(_sides(p)):
                learned[f"{name}.side{i}"] = torch.eye(side, dtype=p.dtype)
        return learned

    def step(self, rule: P, state: None, grads: P, params: P) -> tuple[P, None]:  # noqa: ARG002
        return {name: p - self.lr * _bent(rule, name, grads[name]) for name, p in params.items()}, None


def _sides(p: Tensor) -> tuple[int, ...]:
    """(outputs, inputs) of a linear layer, (outputs, inputs, pixels) of a convolution; none of other tensors."""
    if p.ndim < 2:
        return ()
    return tuple(p.shape) if p.ndim == 2 else (p.shape[0], p.shape[1], p[0, 0].numel())


def _bent(rule: P, name: str, grad: Tensor) -> Tensor:
    if grad.ndim == 0:
        return grad
    if grad.ndim == 1:
        return rule[f"{name}.factor"] * grad
    bent = grad.reshape(_sides(grad))
    with torch.autocast(grad.device.type, enabled=False):  # it would round what the weights are moved by
        for i in range(bent.ndim):
            bent = torch.tensordot(rule[f"{name}.side{i}"], bent.movedim(i, 0), 1).movedim(0, i)
    return bent.reshape(grad.shape)
