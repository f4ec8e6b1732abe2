"""New tasks out of old ones."""

import torch
from torch import Tensor

from metavision.errors import InputError
from metavision.types import Episode, Examples

TURNS = 4


def turn_classes(examples: Examples, turns: Tensor) -> Examples:
    """Turns all images of a class alike, which makes it another class.

    Args:
        examples: of T tasks, square, x (T, n, C, H, W), y (T, n); what has a label below 0 stays upright.
        turns: (T, k) int64, quarter turns of each class, counter-clockwise.
    """
    if examples.x.shape[-1] != examples.x.shape[-2]:
        raise InputError("augment.turn_classes needs square images")
    turn = turns.gather(1, examples.y.clamp_min(0)).masked_fill(examples.y < 0, 0)
    x = examples.x
    for t in range(1, TURNS):
        x = torch.where((turn == t)[..., None, None, None], examples.x.rot90(t, dims=(-2, -1)), x)
    return examples._replace(x=x)


def mix(a: Episode, b: Episode, weight: Tensor) -> Episode:
    """Blends tasks in pairs: class j of the new task is class j of one and class j of the other, in one proportion.

    Reference:
        Meta-Learning with Fewer Tasks through Task Interpolation (Yao, Zhang and Finn, 2022),
        https://arxiv.org/abs/2106.02695

    Differs in blending images, where the paper blends features of a random layer.

    Args:
        a: T tasks; their labels are kept.
        b: T others, labelled in the same order.
        weight: (T,) in [0, 1], the part of `a`.
    """

    def mixed(one: Examples, other: Examples) -> Examples:
        return one._replace(x=torch.lerp(other.x, one.x, weight.view(-1, 1, 1, 1, 1)))

    return a._replace(support=mixed(a.support, b.support), query=mixed(a.query, b.query))
