"""What must hold on a CUDA device: `make gpu`."""

import numpy as np
import pytest
import torch

from metavision import trees
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
from metavision.engine.mapping import Mapper
from metavision.seeds import generator
from metavision.types import Episode, Examples
from tests.algorithms.builds import NAMES, built
from tests.conftest import toy_source, toy_tasks

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.usefixtures("float64"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_the_cpus(name: str) -> None:
    algorithm, tasks = built(name), toy_tasks()
    meta = algorithm.init(generator("gpu"))
    expected, _ = algorithm.meta_grad(meta, tasks, Mapper("loop"))
    there = Episode(*(Examples(e.x.cuda(), e.y.cuda()) for e in tasks[:2]))
    for mapper in (Mapper("loop"), Mapper("vmap", 2), Mapper("vmap", 3)):
        found, _ = algorithm.meta_grad(checkpoint.to(meta, torch.device("cuda")), there, mapper)
        assert trees.norm(trees.add({k: v.cpu() for k, v in found.items()}, trees.scale(expected, -1))) < 1e-9


def test_images_are_the_same_wherever_they_live() -> None:
    source, cuda = toy_source(), torch.device("cuda")
    index = np.array([5, 70, 5, 0])
    expected = torch.from_numpy(source.read(index))
    places = {Held: "on cuda", Pinned: "in pinned memory of the host", Mapped: "in a memory map"}
    for kind, where in places.items():
        images = kind(source, cuda)
        assert images.where.startswith(where) and images.take(index).is_cuda
        assert torch.equal(images.take(index).cpu(), expected)
    assert isinstance(resident(source, cuda), Held)
    assert isinstance(resident(source, cuda, budget=10), Pinned)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_augmented_episodes_are_the_same_on_any_device(device: str) -> None:
    photo = Compose([RandomCrop(padding=2), ColorJitter(0.4, 0.4, 0.4), RandomHorizontalFlip(), RandomRotation(20)])
    augment = Augment(support=photo, query=photo, turn_classes=True, mix=0.5)
    source = toy_source(channels=3)
    batches = []
    for place in ("cpu", device):
        images = Images(resident(source, torch.device(place)), Scaling.of(source))
        batches.append(Episodes(EpisodeSampler(source, EpisodeSpec(5, 2, 3), seed=0), images, augment).batch([3, 8]))
    for ours, theirs in zip(batches[0][:2], batches[1][:2], strict=True):
        torch.testing.assert_close(theirs.x.cpu(), ours.x, atol=1e-6, rtol=0)
        assert torch.equal(theirs.y.cpu(), ours.y)
