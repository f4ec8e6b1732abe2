"""On a CUDA device no step waits for it, and batches made ahead are the same: `make gpu`."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import torch

from metavision.cli import training
from metavision.data.batches import Episodes
from metavision.data.episodes import EpisodeSampler
from metavision.data.images import Images
from metavision.data.resident import Held, Mapped, Pinned
from metavision.data.spec import EpisodeSpec
from metavision.engine.graphs import no_waiting
from metavision.engine.mapping import Mapper
from metavision.engine.prefetch import Prefetcher
from metavision.engine.train import _Trainer
from metavision.records.run import Run
from metavision.seeds import generator
from metavision.trees import to
from tests.algorithms.builds import NAMES, built, composed, food
from tests.cli.test_selection import Toy
from tests.conftest import toy_source, toy_tasks
from tests.engine.test_waiting import Silent

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
CUDA = torch.device("cuda")


@pytest.fixture
def watched() -> Iterator[Any]:
    """Calling it makes an error of every wait for the device, in all threads."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(no_waiting())


@pytest.mark.parametrize("mapper", [Mapper("loop"), Mapper("vmap", 2)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_a_meta_gradient_does_not_wait(name: str, mapper: Mapper, watched: Any) -> None:
    algorithm = built(name)
    if algorithm.mapping == "loop" and mapper.strategy == "vmap":
        pytest.skip("it does not map")
    tasks = to(food(algorithm, toy_tasks()), CUDA)
    meta = to(algorithm.init(generator("waits")), CUDA)
    algorithm.meta_grad(meta, tasks, mapper)  # libraries set themselves up
    watched()
    algorithm.meta_grad(meta, tasks, mapper)


@pytest.mark.parametrize("prefetch", [False, True])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
def test_a_step_does_not_wait(optimizer: str, prefetch: bool, tmp_path: Any, watched: Any) -> None:
    words = ["algo=maml", "algo.steps=1", "backbone.filters=4", f"optimizer={optimizer}", "clip=1.0"]
    few = ["episode.way=3", "episode.query=2", "budget.validation_episodes=2", "budget.log_every=100"]
    plan = training.plan_of(composed(*words, *few, "scaling=standard", "augment=rotations"), Toy(), CUDA)
    run = Run(tmp_path / "run" / "seed0")
    ahead = Prefetcher(plan.batch, plan.steps, CUDA)
    with run.locked(wait=False), ahead:
        trainer = _Trainer(plan, run, Silent(), ahead if prefetch else plan.batch)
        trainer.advance()
        trainer.advance()
        torch.cuda.synchronize()
        watched()
        trainer.advance()
        trainer.advance()
    assert trainer.step == 4


@pytest.mark.parametrize("kind", [Held, Pinned, Mapped])
def test_batches_made_ahead_are_the_same(kind: Any) -> None:
    """While the device is behind, and memory is taken again at once."""
    source = toy_source(size=64)
    episodes = Episodes(EpisodeSampler(source, EpisodeSpec(5, 2, 3), seed=0), Images(kind(source, CUDA)))

    def make(step: int) -> Any:
        return episodes.batch(range(8 * step, 8 * step + 8))

    expected = [make(step).support.x.double().sum((1, 2, 3, 4)).cpu() for step in range(20)]
    work, found = torch.rand(2000, 2000, device=CUDA), []
    with Prefetcher(make, 20, CUDA) as ahead:
        for step in range(20):
            batch = ahead(step)
            for _ in range(5):
                work = work @ work.softmax(0)
            found.append(batch.support.x.double().sum((1, 2, 3, 4)))
            del batch
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours.cpu(), theirs)
