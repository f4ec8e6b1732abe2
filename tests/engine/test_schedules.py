"""Schedules against torch's."""

import pytest
import torch

from metavision.engine.schedules import Constant, Cosine, Schedule, Step


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Constant(), lambda o: torch.optim.lr_scheduler.ConstantLR(o, factor=1.0)),
        (Step(every=3, factor=0.5), lambda o: torch.optim.lr_scheduler.StepLR(o, 3, 0.5)),
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
