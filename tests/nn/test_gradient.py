"""Inner gradients and steps that are done again."""

import pytest
import torch
from torch import Tensor

from metavision.engine.footprint import footprint
from metavision.engine.mapping import Mapper
from metavision.nn.gradient import gradient, step
from metavision.nn.modes import Modes, under
from metavision.seeds import generator
from metavision.types import P
from tests.algorithms.builds import built
from tests.conftest import toy_tasks

pytestmark = pytest.mark.usefixtures("float64")


def test_what_is_made_of_another_variable_counts_as_one_of_its_own() -> None:
    """As torch.func has it: the partial derivative, and what differentiates it sees where the variable came from."""
    a = torch.tensor(2.0, requires_grad=True)
    slopes = gradient(lambda at: at["a"] ** 3 * at["b"], {"a": a, "b": a * a})
    assert slopes["a"].item() == 3 * 2**2 * 4 and slopes["b"].item() == 8
    (curved,) = torch.autograd.grad(slopes["b"], a)  # a^3, by a
    assert float(curved) == 3 * 2**2


def test_what_nothing_outside_depends_on_is_a_constant() -> None:
    a = torch.tensor(2.0)
    assert not gradient(lambda at: at["a"] ** 3, {"a": a})["a"].requires_grad
    a.requires_grad_()
    assert gradient(lambda at: at["a"] ** 3, {"a": a})["a"].requires_grad
    assert not gradient(lambda at: at["a"] ** 3, {"a": a}, constant=True)["a"].requires_grad
    with torch.no_grad():
        assert not gradient(lambda at: at["a"] ** 3, {"a": a})["a"].requires_grad


@pytest.mark.parametrize("recompute", [False, True])
def test_a_step_done_again_draws_the_same_and_keeps_what_is_no_tensor(recompute: bool) -> None:
    calls = []

    def noisy(fast: P, state: tuple[int, None]) -> tuple[P, tuple[int, None]]:
        calls.append(state)
        noise = torch.rand(3)
        slopes = gradient(lambda at: (noise * at["w"] ** 3).sum(), fast)
        return {"w": fast["w"] - 0.1 * slopes["w"], "still": fast["still"]}, (state[0] + 1, None)

    w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    torch.manual_seed(0)
    fast: tuple[P, tuple[int, None]] = ({"w": w, "still": torch.ones(2)}, (0, None))
    with under(Modes(recompute=recompute)):
        for _ in range(2):
            fast = step(noisy, *fast)
    assert fast[1] == (2, None)
    (slope,) = torch.autograd.grad(fast[0]["w"].sum(), w)
    assert len(calls) == (4 if recompute else 2)

    torch.manual_seed(0)
    first, second = torch.rand(3), torch.rand(3)
    once = w.detach() - 0.3 * first * w.detach() ** 2
    by_hand: Tensor = (1 - 0.6 * first * w.detach()) * (1 - 0.6 * second * once)
    torch.testing.assert_close(slope, by_hand)


@pytest.mark.parametrize(
    "name", ["maml", *(pytest.param(name, marks=pytest.mark.slow) for name in ("metasgd", "protomaml"))]
)
def test_memory_does_not_grow_with_steps_that_are_done_again(name: str) -> None:
    def peak(steps: int, mapper: Mapper) -> int:
        algorithm = built(name, f"algo.steps={steps}", "algo.rule.lr=0.01", "norm=batch", size=32)
        meta = algorithm.init(generator("memory"))
        return footprint(algorithm, meta, toy_tasks(tasks=1, size=32), mapper, train=True).peak

    for explicit in (False, True):
        kept, again = (Mapper(explicit=explicit, recompute=recompute) for recompute in (False, True))
        assert peak(12, kept) > 1.8 * peak(4, kept)
        assert peak(12, again) < 1.2 * peak(4, again)
