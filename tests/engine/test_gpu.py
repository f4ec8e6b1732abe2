"""What must hold on a CUDA device: `make gpu`."""

import numpy as np
import pytest
import torch

from metavision import trees
from metavision.bench import memory
from metavision.data.augment.base import Compose
from metavision.data.augment.colour import ColorJitter
from metavision.data.augment.crop import RandomCrop
from metavision.data.augment.flip import RandomHorizontalFlip
from metavision.data.augment.rotation import RandomRotation
from metavision.data.batches import Augment, Episodes
from metavision.data.episodes import EpisodeSampler
from metavision.data.images import Images
from metavision.data.resident import Held, Mapped, Pinned, resident
from metavision.data.scaling import Scaling
from metavision.data.spec import EpisodeSpec
from metavision.engine import checkpoint
from metavision.engine.graphs import Replayed
from metavision.engine.mapping import Mapper
from metavision.errors import InputError
from metavision.seeds import generator
from metavision.types import Meta
from tests.algorithms.builds import NAMES, built, food, smooth
from tests.conftest import toy_source, toy_tasks

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.usefixtures("float64"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
CUDA = torch.device("cuda")


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_the_cpus(name: str) -> None:
    algorithm = smooth(name)
    meta, tasks = algorithm.init(generator("gpu")), food(algorithm, toy_tasks())
    expected, _ = algorithm.meta_grad(meta, tasks, Mapper("loop"))
    there = trees.to(tasks, CUDA)
    loops = [Mapper("loop"), Mapper("loop", channels_last=True, explicit=True), Mapper("loop", recompute=True)]
    for mapper in (*loops, Mapper("vmap", 2), Mapper("vmap", 3), Mapper("vmap", 2, explicit=True)):
        found, _ = mapper.meta_grad(algorithm, checkpoint.to(meta, CUDA), there)
        assert trees.norm(trees.add({k: v.cpu() for k, v in found.items()}, trees.scale(expected, -1))) < 1e-9


REPLAYED = ("maml", "fomaml", "anil", "boil", "metasgd", "reptile", "protonet", "matchingnet", "baseline")


@pytest.mark.parametrize("name", NAMES)
def test_a_replayed_gradient_is_the_loops(name: str) -> None:
    """Twice, with other weights and other tasks, so that what was recorded is not what is asked for."""
    algorithm, tasks = smooth(name), toy_tasks(tasks=4)
    first = checkpoint.to(algorithm.init(generator("gpu")), CUDA)
    second = Meta(trees.scale(first.params, 1.1), {})
    here = trees.to(food(algorithm, tasks), CUDA)
    graph = Mapper("graph", 2)
    for meta, at in ((first, slice(0, 3)), (second, slice(1, 4)), (first, slice(0, 3))):
        some = trees.index(here, at)
        try:
            found, logs = graph.meta_grad(algorithm, meta, some)
        except InputError as error:
            assert name not in REPLAYED
            pytest.skip(f"{name}: {error}")
        expected, expected_logs = algorithm.meta_grad(meta, some, Mapper("loop"))
        assert trees.norm(trees.add(found, trees.scale(expected, -1.0))) <= 1e-9 * trees.norm(expected)
        torch.testing.assert_close(logs, expected_logs, rtol=1e-9, atol=1e-12)


def test_a_replay_draws_as_the_generators_state_says() -> None:
    algorithm = built("feat", "algo.drop=0.5")
    meta = checkpoint.to(algorithm.init(generator("gpu")), CUDA)
    tasks, graph, found = trees.to(toy_tasks(tasks=2), CUDA), Mapper("graph", 2), []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        found.append(graph.meta_grad(algorithm, meta, tasks)[1]["loss"])
    assert found[0] == found[2] != found[1]


def test_what_waits_for_the_device_is_refused_and_leaves_it_fit_for_use() -> None:
    replayed, x = Replayed(), torch.ones(3, device="cuda")
    with pytest.raises(InputError, match="can't be captured"):
        replayed(lambda x: x * float(x.sum()), x, "waits")
    torch.manual_seed(0)
    drawn = torch.rand(3, device="cuda")
    torch.manual_seed(0)
    assert torch.equal(replayed(lambda x: x * torch.rand_like(x), x, "draws"), drawn)


def test_images_are_the_same_wherever_they_live() -> None:
    source = toy_source()
    index = np.array([5, 70, 5, 0])
    expected = torch.from_numpy(source.read(index))
    places = {Held: "on cuda", Pinned: "in pinned memory of the host", Mapped: "in a memory map"}
    for kind, where in places.items():
        images = kind(source, CUDA)
        assert images.where.startswith(where) and images.take(index).is_cuda
        assert torch.equal(images.take(index).cpu(), expected)
    assert isinstance(resident(source, CUDA), Held)
    assert isinstance(resident(source, CUDA, budget=10), Pinned)


def test_augmented_episodes_are_the_same_on_any_device() -> None:
    photo = Compose([RandomCrop(padding=2), ColorJitter(0.4, 0.4, 0.4), RandomHorizontalFlip(), RandomRotation(20)])
    augment = Augment(support=photo, query=photo, turn_classes=True, mix=0.5)
    source = toy_source(channels=3)
    batches = []
    for place in (torch.device("cpu"), CUDA):
        images = Images(resident(source, place), Scaling.of(source))
        batches.append(Episodes(EpisodeSampler(source, EpisodeSpec(5, 2, 3), seed=0), images, augment).batch([3, 8]))
    for ours, theirs in zip(batches[0][:2], batches[1][:2], strict=True):
        torch.testing.assert_close(theirs.x.cpu(), ours.x, atol=1e-6, rtol=0)
        assert torch.equal(theirs.y.cpu(), ours.y)


def test_peak_memory_is_that_of_the_work_and_of_what_a_recording_keeps() -> None:
    """Not that of the algorithms which cuDNN tries in a first call."""
    x, replayed = torch.ones(2**24, dtype=torch.float32, device=CUDA), Replayed()

    def work(x: torch.Tensor) -> torch.Tensor:
        return (x + 1) * (x + 2)

    tried: list[torch.Tensor] = []

    def first_more() -> torch.Tensor:
        if not tried:
            tried.append(torch.ones(2**27, device=CUDA)[:1].clone())
        return work(x)

    plain = memory.growth(lambda: work(x), CUDA)
    assert plain == pytest.approx(3 * 2**26, rel=0.1)
    assert memory.growth(first_more, CUDA) == pytest.approx(plain, rel=0.1)
    recorded = memory.growth(lambda: replayed(work, x, "work"), CUDA)
    assert recorded is not None and recorded >= plain
