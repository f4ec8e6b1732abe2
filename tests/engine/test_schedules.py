"""Schedules against torch's."""

import warnings

import pytest
import torch

from metavision.engine.schedules import Constant, Cosine, Linear, MultiStep, Schedule, Step, Warmup


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
