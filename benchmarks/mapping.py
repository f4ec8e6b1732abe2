"""Times the ways to map a meta-gradient over tasks: interleaved, so that a drifting machine is fair to all.

Prints, for every workload, the median time a task takes by each mapping as a ratio to the loop's.
"""

import os
import statistics
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

from metavision.algorithms.base import Algorithm
from metavision.algorithms.maml import MAML
from metavision.algorithms.protonet import ProtoNet
from metavision.backbones.conv4 import Conv4
from metavision.engine import device
from metavision.engine.mapping import Mapper
from metavision.problems.classification import Classification
from metavision.rules.sgd import SGD
from metavision.seeds import generator
from metavision.types import Episode, Examples

ROUNDS = 5
MAPPERS = {
    "loop": Mapper(),
    "loop, channels last, explicit": Mapper(channels_last=True, explicit=True),
    **{f"vmap {chunk}": Mapper("vmap", chunk) for chunk in (2, 4, 8)},
    **({"graph 8": Mapper("graph", 8)} if torch.cuda.is_available() else {}),
}
GREY, COLOUR = (1, 28, 28), (3, 84, 84)


def maml(shape: tuple[int, int, int], steps: int, filters: int) -> MAML:
    backbone = Conv4(shape, filters=filters, norm="batch")
    return MAML(backbone=backbone, problem=Classification(5), rule=SGD(0.1), steps=steps)


def workloads() -> dict[str, tuple[Algorithm, tuple[int, int, int], int]]:
    """Name -> algorithm, image shape, queries a class; all 5-way 1-shot."""
    return {
        "MAML 28 px, 1 step, 1 query": (maml(GREY, 1, 64), GREY, 1),
        "MAML 28 px, 5 steps, 15 queries": (maml(GREY, 5, 64), GREY, 15),
        "MAML 84 px, 5 steps, 15 queries": (maml(COLOUR, 5, 32), COLOUR, 15),
        "ProtoNet 28 px, 15 queries": (ProtoNet(backbone=Conv4(GREY), problem=Classification(5)), GREY, 15),
    }


def tasks(shape: tuple[int, int, int], query: int, place: torch.device) -> Episode:
    def examples(each: int) -> Examples:
        y = torch.arange(5, device=place).repeat_interleave(each).expand(8, -1)
        return Examples(torch.rand(8, 5 * each, *shape, device=place), y)

    return Episode(examples(1), examples(query))


def seconds(algorithm: Algorithm, batch: Episode, mapper: Mapper, place: torch.device) -> float:
    """Of one meta-gradient."""
    params = algorithm.init(generator("bench"))
    meta = type(params)(*({name: t.to(place) for name, t in tree.items()} for tree in params))
    device.wait(place)
    begun = time.perf_counter()
    mapper.meta_grad(algorithm, meta, batch)
    device.wait(place)
    return time.perf_counter() - begun


def main() -> None:
    place = device.resolve("auto")
    print(
        f"{device.name(place)}, {torch.get_num_threads()} threads, torch {torch.__version__}, 8 tasks, {ROUNDS} rounds"
    )
    for workload, (algorithm, shape, query) in workloads().items():
        batch = tasks(shape, query, place)
        taken: dict[str, list[float]] = {name: [] for name in MAPPERS}
        for _ in range(ROUNDS):
            for name, mapper in MAPPERS.items():
                taken[name].append(seconds(algorithm, batch, mapper, place))
        median = {name: statistics.median(values) for name, values in taken.items()}
        ratios = "  ".join(f"{name} {median[name] / median['loop']:.2f}" for name in MAPPERS)
        print(f"{workload:<34}{1000 * median['loop'] / 8:8.1f} ms a task by loop;  {ratios}", flush=True)


if __name__ == "__main__":
    main()
