"""What lower precision must do on a CUDA device: `make gpu`. Never run yet."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from metavision import trees
from metavision.engine import checkpoint, device
from metavision.engine.mapping import Mapper
from metavision.seeds import generator
from metavision.types import Episode, Examples, Meta
from tests.algorithms.builds import built
from tests.conftest import toy_tasks

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
TF32_UNIT, BF16_UNIT = 2**-10, 2**-8  # relative, between two numbers that are neighbours
FACTOR = 4.0  # see tests/algorithms/test_precision.py


@pytest.fixture(autouse=True)
def precision_as_it_was() -> Iterator[None]:
    yield
    device.configure("fp32", deterministic=False, threads=None)


def tasks() -> Episode:
    return Episode(*(Examples(e.x.cuda(), e.y.cuda()) for e in toy_tasks(tasks=2, size=28)[:2]))


def start(name: str) -> tuple[Any, Meta]:
    algorithm = built(name, "norm=batch", "backbone.downsample=stride", filters=32, size=28)
    return algorithm, checkpoint.to(algorithm.init(generator("gpu")), torch.device("cuda"))


@pytest.mark.parametrize("mapper", [Mapper("loop"), Mapper("vmap", 2)])
@pytest.mark.parametrize("name", ["protonet", "maml", "anil", "r2d2"])
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_lower_precision_moves_the_gradient_no_more_than_rounding_does(
    name: str, precision: str, mapper: Mapper
) -> None:
    algorithm, meta = start(name)
    device.configure("fp32", deterministic=False, threads=None)
    exact, _ = algorithm.meta_grad(meta, tasks(), Mapper("loop"))
    unit, g = (TF32_UNIT if precision == "tf32" else BF16_UNIT), torch.Generator("cuda").manual_seed(0)

    def rounded(x: torch.Tensor) -> torch.Tensor:
        return x * (1 + unit * (2 * torch.rand(x.shape, generator=g, device="cuda") - 1))

    def moved() -> float:
        around = Meta({key: rounded(p) for key, p in meta.params.items()}, {})
        near = Episode(*(e._replace(x=rounded(e.x)) for e in tasks()[:2]))
        return distance(algorithm.meta_grad(around, near, Mapper("loop"))[0])

    def distance(found: dict[str, torch.Tensor]) -> float:
        return float(trees.norm(trees.add(found, trees.scale(exact, -1))) / trees.norm(exact))

    bound = FACTOR * max(moved() for _ in range(4))
    device.configure(precision, deterministic=False, threads=None)
    found, _ = algorithm.meta_grad(meta, tasks(), Mapper(mapper.strategy, mapper.chunk, precision == "bf16"))
    assert 0 < distance(found) <= bound


class Types(TorchDispatchMode):
    """Of what convolutions give."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket is torch.ops.aten.convolution:
            self.seen.add(out.dtype)
        return out


@pytest.mark.parametrize("mapper", [Mapper("loop", autocast=True), Mapper("vmap", 2, autocast=True)])
def test_convolutions_are_in_bfloat16_mapped_or_not(mapper: Mapper) -> None:
    """On a CPU mapped ones are not: there autocast knows conv2d alone, and torch.func takes that apart before."""
    algorithm, meta = start("protonet")
    with Types() as types:
        algorithm.meta_grad(meta, tasks(), mapper)
    assert types.seen == {torch.bfloat16}
