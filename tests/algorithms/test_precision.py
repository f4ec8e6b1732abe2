"""What bfloat16 autocast does to a meta-gradient: no more than rounding images and weights to its digits does.

How much rounding moves a gradient differs by a factor of hundreds between methods and networks, since kinks of ReLU and
pooling, layers of batch moments and the steps of an inner loop enlarge it. So the bound is not a number: it is taken
from the same gradient in float32, with every image and weight off by up to one unit in bfloat16's last place.
"""

import pytest
import torch
from torch.utils import _pytree as pytree

from metavision import trees
from metavision.engine.mapping import Mapper
from metavision.seeds import generator
from metavision.types import Meta, P
from tests.algorithms.builds import NAMES, built, food
from tests.conftest import toy_tasks

UNIT = 2**-8  # of bfloat16: relative, between two numbers that are neighbours
FACTOR = 4.0  # about 1 is found, at most 2.6; the draws, by which it is bounded, differ by as much
DRAWS = 4


def distance(a: P, b: P) -> float:
    """Relative to b."""
    return float(trees.norm(trees.add(a, trees.scale(b, -1))) / trees.norm(b))


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_moves_the_gradient_no_more_than_rounding_does(name: str) -> None:
    words = ["algo.rule.lr=0.01"] if hasattr(built(name), "rule") else []
    algorithm, g = built(name, "norm=batch", "backbone.downsample=stride", *words, filters=8), generator("rounding")
    meta, tasks = algorithm.init(generator("laws")), food(algorithm, toy_tasks(tasks=2))
    exact, _ = algorithm.meta_grad(meta, tasks, Mapper("loop"))

    def rounded(leaf: object) -> object:
        if not (isinstance(leaf, torch.Tensor) and leaf.is_floating_point()):
            return leaf
        return leaf * (1 + UNIT * (2 * torch.rand(leaf.shape, generator=g) - 1))

    def moved() -> float:
        around = Meta(*pytree.tree_map(rounded, tuple(meta)))
        return distance(algorithm.meta_grad(around, pytree.tree_map(rounded, tasks), Mapper("loop"))[0], exact)

    bound = FACTOR * max(moved() for _ in range(DRAWS))
    for mapper in (Mapper("loop", autocast=True), Mapper("vmap", 2, autocast=True)):
        found, _ = algorithm.meta_grad(meta, tasks, mapper)
        assert {p.dtype for p in found.values()} == {torch.float32}
        assert distance(found, exact) <= bound


def test_a_step_done_again_is_in_the_precision_that_it_was_done_in() -> None:
    algorithm = built("maml", "norm=batch", "algo.steps=3", filters=8)
    meta, tasks = algorithm.init(generator("again")), toy_tasks(tasks=2)
    kept, again = (
        algorithm.meta_grad(meta, tasks, Mapper(autocast=True, recompute=recompute))[0] for recompute in (False, True)
    )
    assert distance(again, kept) <= 1e-6
