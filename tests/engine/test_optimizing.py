"""Optimizers without torch's compiler: the same steps."""

import pytest
import torch

from metavision.engine.optimizing import descend, spare_the_compiler

MADE = {
    "Adam": {"lr": 0.1},
    "AdamW": {"lr": 0.1, "amsgrad": True},
    "SGD": {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    "RMSprop": {"lr": 0.1},
    "Adagrad": {"lr": 0.1},
    "NAdam": {"lr": 0.1},
    "RAdam": {"lr": 0.1},
    "Adadelta": {},
    "Adamax": {"lr": 0.1},
    "ASGD": {"lr": 0.1},
    "Rprop": {"lr": 0.1},
}


@pytest.mark.parametrize("name", MADE)
def test_a_step_is_torchs_step(name: str) -> None:
    def after(sparing: bool) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        weights = [torch.randn(3, 2, generator=generator, requires_grad=True) for _ in range(2)]
        optimizer = getattr(torch.optim, name)(weights, **MADE[name])
        for _ in range(3):
            for weight in weights:
                weight.grad = torch.randn(3, 2, generator=generator)
            descend(optimizer) if sparing else optimizer.step()
        return weights

    spare_the_compiler()
    ours, theirs = after(True), after(False)
    assert all(torch.equal(a, b) and a.requires_grad and a.is_leaf for a, b in zip(ours, theirs, strict=True))


def test_a_users_own_optimizer_is_called_as_it_is() -> None:
    class Own(torch.optim.SGD):
        stepped = 0

        def step(self, closure: object = None) -> None:  # type: ignore[override]
            self.stepped += 1
            super().step()

    weight = torch.ones(2, requires_grad=True)
    weight.grad = torch.ones(2)
    optimizer = Own([weight], lr=0.5)
    descend(optimizer)
    assert optimizer.stepped == 1 and weight.tolist() == [0.5, 0.5]
