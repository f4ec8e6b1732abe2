"""What must hold on a CUDA device: `make gpu`."""

import pytest
import torch

from metavision import trees
from metavision.engine import checkpoint
from metavision.engine.mapping import Mapper
from metavision.seeds import generator
from metavision.types import Episode, Examples
from tests.algorithms.builds import NAMES, built
from tests.conftest import toy_tasks

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
    there = Episode(*(Examples(e.x.cuda(), e.y.cuda()) for e in tasks))
    for mapper in (Mapper("loop"), Mapper("vmap", 2), Mapper("vmap", 3)):
        found, _ = algorithm.meta_grad(checkpoint.to(meta, torch.device("cuda")), there, mapper)
        assert trees.norm(trees.add({k: v.cpu() for k, v in found.items()}, trees.scale(expected, -1))) < 1e-9
