"""Schedules against torch's."""

import warnings

import pytest
import torch

from metavision.engine.schedules import Constant, Cooldown, Cosine, Linear, MultiStep, Schedule, Step, Warmup
from metavision.errors import InputError


def warmed(optimizer: torch.optim.Optimizer, then: torch.optim.lr_scheduler.LRScheduler) -> object:
    """Five steps of warming up, as torch chains schedules."""
    first = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / 6, 1.0, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own chain steps with a deprecated argument
        return torch.optim.lr_scheduler.SequentialLR(optimizer, [first, then], [5])


@pytest.mark.filterwarnings("ignore:The epoch parameter")
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Constant(), lambda o: torch.optim.lr_scheduler.ConstantLR(o, factor=1.0)),
        (Step(every=3, factor=0.5), lambda o: torch.optim.lr_scheduler.StepLR(o, 3, 0.5)),
        (MultiStep([4, 9], 0.1), lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [4, 9], 0.1)),
        (MultiStep([2, 5], 0.1, of=10), lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [4, 10], 0.1)),
        (Linear(0.2), lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.2, 20)),
        (Warmup(5, Cosine(0.1)), lambda o: warmed(o, torch.optim.lr_scheduler.CosineAnnealingLR(o, 15, eta_min=0.1))),
        (Cosine(final=0.1), lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 20, eta_min=0.1)),
    ],
)
def test_factors_are_torchs(ours: Schedule, theirs: object) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = theirs(optimizer)
    for step in range(20):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(ours(step, 20))
        optimizer.step()
        scheduler.step()


def test_each_milestone_may_have_a_factor_of_its_own() -> None:
    rates = MultiStep([20, 40, 50], [0.06, 0.2, 0.2])  # 0.1, 0.006, 0.0012, 0.00024, as in MetaOptNet's code
    at = [0.1 * rates(step, 60) for step in (0, 19, 20, 39, 40, 49, 50, 59)]
    assert at == pytest.approx([0.1, 0.1, 0.006, 0.006, 0.0012, 0.0012, 0.00024, 0.00024])
    with pytest.raises(InputError, match=r"schedule.factor lists 2, schedule.milestones 3"):
        MultiStep([20, 40, 50], [0.06, 0.2])


def test_a_cooldown_is_a_schedule_that_then_falls_to_nothing() -> None:
    of, cooled = Cosine(0.1), Cooldown(Cosine(0.1), 0.25)
    assert [cooled(step, 100) for step in range(75)] == [of(step, 100) for step in range(75)]
    assert cooled(80, 100) == pytest.approx(of(80, 100) * 20 / 25)
    assert Cooldown(Constant(), 1.0)(99, 100) == pytest.approx(0.01) and cooled(100, 100) == 0
    assert Cooldown(Constant(), 0.5)(0, 1) == 1  # a single step is taken in full
    for share in (0.0, 1.5):
        with pytest.raises(InputError, match="a share of the steps"):
            Cooldown(Constant(), share)
