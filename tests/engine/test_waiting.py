"""Between two logs no step waits for the device: nothing is read on the host."""

from collections import Counter
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from metavision.cli import training
from metavision.engine.mapping import Mapper
from metavision.engine.train import _Trainer
from metavision.records.run import Run
from metavision.seeds import generator
from tests.algorithms.builds import NAMES, built, composed, food
from tests.cli.test_selection import Toy
from tests.conftest import toy_tasks

aten = torch.ops.aten
READ = {  # what gives a number to the host, or a tensor whose shape depends on numbers, or asks whether to complain
    *(aten._local_scalar_dense, aten.item, aten.is_nonzero, aten.equal, aten.nonzero, aten.masked_select),
    *(aten._unique2, aten.unique_dim, aten.unique_consecutive, aten.repeat_interleave, aten._linalg_check_errors),
}


class Reads(TorchDispatchMode):
    """Counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        chosen = func.overloadpacket in (aten.index, aten.index_put, aten.index_put_)
        if func.overloadpacket in READ or (chosen and any(i is not None and i.dtype == torch.bool for i in args[1])):
            self.found[str(func)] += 1
        return func(*args, **(kwargs or {}))


def one_hot(y: torch.Tensor, k: int) -> torch.Tensor:
    return (y.unsqueeze(-1) == torch.arange(k)).long()


@pytest.fixture(autouse=True)
def labels_that_are_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU; on a CPU, where there is nobody to wait for, torch's own reads labels to check them."""
    monkeypatch.setattr(F, "one_hot", one_hot)


def test_what_reads_is_found() -> None:
    x = torch.arange(3.0)
    with Reads() as reads:
        _ = (x + x).sum()
    assert not reads.found
    solve = partial(torch.linalg.solve, torch.eye(3), x)
    for read in (lambda: float(x[0]), lambda: bool(x[0]), lambda: x[x > 1], x.nonzero, x.unique, solve):
        with Reads() as reads:
            read()
        assert reads.found


@pytest.mark.parametrize("mapper", [Mapper("loop"), Mapper("vmap", 2)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_a_meta_gradient_reads_nothing(name: str, mapper: Mapper) -> None:
    algorithm = built(name)
    tasks, meta = food(algorithm, toy_tasks()), algorithm.init(generator("reads"))
    if algorithm.mapping == "loop" and mapper.strategy == "vmap":
        pytest.skip("it does not map")
    with Reads() as reads:
        algorithm.meta_grad(meta, tasks, mapper)
    assert not reads.found


class Silent:
    """An observer."""

    def started(self, step: int) -> None: ...

    def stepped(self, step: int) -> None: ...

    def logged(self, row: dict[str, Any], tasks: int) -> None: ...


def test_a_step_reads_nothing(tmp_path: Any) -> None:
    """With plain descent: on the host, where it is anyway, Adam counts its steps."""
    words = ["algo=maml", "algo.steps=1", "backbone.filters=4", "optimizer=sgd", "clip=1.0", "episode.meta_batch=2"]
    few = ["episode.way=3", "episode.query=2", "budget.validation_episodes=2", "budget.log_every=100"]
    plan = training.plan_of(composed(*words, *few), Toy(), torch.device("cpu"))
    run = Run(tmp_path / "run" / "seed0")
    with run.locked(wait=False):
        trainer = _Trainer(plan, run, Silent(), plan.batch)
        trainer.advance()  # momentum begins
        with Reads() as reads:
            trainer.advance()
            trainer.advance()
    assert trainer.step == 3 and not reads.found
