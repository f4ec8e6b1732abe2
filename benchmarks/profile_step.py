"""Where the time of a training step goes, by kind of work, and the least it could take by this device's own ceiling.

python benchmarks/profile_step.py --json benchmarks/profile.json --chart docs/profile-cpu.png

Every operation below autograd and torch.func is told by its kind. On a CPU its time is the processor's, which other
programs do not move; on CUDA that of its kernels, by torch.profiler. What a step takes beyond their sum, measured
without all this, is Python, dispatch and autograd, in which on CUDA the device is idle. The ceiling is what a large
matrix product or convolution, and a large copy, reach on this device in float32: no kind can take less than its FLOPs
at the one, or its bytes, read and written once by every operation, at the other, unless these are in cache. On one
thread of a CPU. Not yet run on a GPU.
"""

import json
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from metavision.cli import process  # noqa: F401 - before torch

# isort: split

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from metavision import trees
from metavision.algorithms.base import Algorithm
from metavision.algorithms.maml import MAML
from metavision.algorithms.protonet import ProtoNet
from metavision.backbones.conv4 import Conv4
from metavision.bench.contenders import of_a_step
from metavision.bench.cost import COPIED, FORMULAS, SIDE, ceiling
from metavision.bench.hardware import hardware
from metavision.cli.guard import guarded
from metavision.cli.parser import Parser
from metavision.engine import checkpoint, device
from metavision.engine.fitting import Wanted
from metavision.problems.classification import Classification
from metavision.records.provenance import provenance
from metavision.rules.sgd import SGD
from metavision.seeds import generator
from metavision.types import Episode, Examples

REST, OVERHEAD = "other operations", "Python, dispatch, autograd"
KINDS = {  # by a part of an operation's name; the first that fits
    "convolution": ("convolution", "conv2d"),
    "convolution: input gradient": (),  # of convolution_backward, by what it is asked for
    "convolution: weight gradient": ("metavision.tiles",),  # whose products are among those of matrices
    "passes of blocks, compiled": ("metavision.",),
    "matrix products": ("mm", "matmul", "linalg", "dot"),
    "pooling": ("pool", "gather", "scatter", "index"),
    "reductions (normalisation)": ("sum", "mean", "var", "amax", "norm", "softmax"),
    "copies and fills": ("copy", "clone", "fill", "zero", "ones", "cat", "stack", "contiguous", "full", "_to_"),
    "elementwise": (
        "mul", "add", "sub", "div", "neg", "relu", "threshold", "clamp", "sqrt", "pow", "square", "exp", "log",
        "where", "maximum", "minimum", "lerp", "gt", "ge", "lt", "le", "eq", "ne", "bitwise", "logical",
    ),
}  # fmt: skip
INPUT, WEIGHT = [kind for kind in KINDS if "gradient" in kind]
BACKWARD = torch.ops.aten.convolution_backward.default
LABEL = "kind: "
ROUNDS, PROFILED = 5, 3


class Step(NamedTuple):
    """A training step to be profiled.

    Args:
        algorithm: with its training settings.
        shape: (C, H, W).
        shot: support images a class, of 5 classes; likewise `query`.
        tasks: in the step.
    """

    algorithm: Algorithm
    shape: tuple[int, int, int]
    shot: int
    query: int
    tasks: int


def steps(*, tiny: bool) -> dict[str, Step]:
    """What is profiled, by its title; `tiny` for a trial of this script."""
    grey, colour = (1, 28, 28), (3, 28, 28) if tiny else (3, 84, 84)
    few, many = (4, 4) if tiny else (32, 64)
    five = Classification(5)

    def maml(backbone: Conv4, lr: float) -> MAML:
        return MAML(backbone=backbone, problem=five, rule=SGD(lr), steps=5)

    return {
        "MAML, second order, 84 px, 5-way 1-shot, 5 steps, 4 tasks": Step(
            maml(Conv4(colour, filters=few, norm="batch"), 0.01), colour, 1, 15, 4
        ),
        "MAML, second order, Omniglot size, 5-way 1-shot, 5 steps, 32 tasks": Step(
            maml(Conv4(grey, filters=many, norm="batch", downsample="stride", average=True), 0.1),
            grey,
            1,
            1,
            2 if tiny else 32,
        ),
        "ProtoNet, 84 px, 5-way 5-shot, 1 task": Step(
            ProtoNet(backbone=Conv4(colour, filters=many), problem=five), colour, 5, 15, 1
        ),
    }


def batch(step: Step, place: torch.device) -> Episode:
    """Noise of the sizes of the step's tasks."""

    def examples(each: int) -> Examples:
        y = torch.arange(5, device=place).repeat_interleave(each).expand(step.tasks, -1)
        return Examples(torch.rand(step.tasks, 5 * each, *step.shape, device=place), y)

    return Episode(examples(step.shot), examples(step.query))


@dataclass
class Work:
    """What operations of a kind do.

    Args:
        calls: how many there are.
        seconds: of the processor, on a CPU.
        flops: of convolutions and matrix products.
        bytes: of all tensors that go in and come out.
    """

    calls: int = 0
    seconds: float = 0
    flops: float = 0
    bytes: float = 0


class Labels(TorchDispatchMode):
    """Times every operation, labels it with its kind for the profiler, and counts its work.

    Where both gradients of a convolution are wanted at once, they are taken one after the other.
    """

    def __init__(self) -> None:
        super().__init__()
        self.work: dict[str, Work] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not BACKWARD:
            return func(*args, **kwargs) if func.is_view else self._labelled(kind(func), func, args, kwargs)
        *given, (wants_input, wants_weight, wants_bias) = args
        x = w = b = None
        if wants_input:
            x, _, _ = self._labelled(INPUT, func, (*given, [True, False, False]), kwargs)
        if wants_weight or wants_bias:
            _, w, b = self._labelled(WEIGHT, func, (*given, [False, wants_weight, wants_bias]), kwargs)
        return x, w, b

    def _labelled(self, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        begun = time.thread_time()
        with torch._C._profiler._RecordFunctionFast(LABEL + name):  # noqa: SLF001 - the label that costs least
            out = func(*args, **kwargs)
        taken, work = time.thread_time() - begun, self.work.setdefault(name, Work())
        work.calls += 1
        work.seconds += taken
        work.bytes += sum(t.numel() * t.element_size() for t in trees.tensors((args, kwargs, out)))
        if count := FORMULAS.get(func.overloadpacket):
            work.flops += count(*args, **kwargs, out_val=out)
        return out


def kind(func: Any) -> str:
    """That of an operation."""
    name = str(func.overloadpacket)
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), REST)


def seconds(once: Callable[[], None], labels: Labels, place: torch.device) -> dict[str, float]:
    """Of each kind, in one step."""
    labels.work.clear()
    if place.type == "cpu":
        with labels:
            for _ in range(PROFILED):
                once()
        return {name: work.seconds / PROFILED for name, work in labels.work.items()}
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], acc_events=True) as profiler, labels:
        once()
    found: Counter[str] = Counter()
    for event in profiler.events():
        if event.name.startswith(LABEL):
            found[event.name.removeprefix(LABEL)] += event.device_time_total / 1e6
    return dict(found)


def clock(place: torch.device) -> Callable[[], float]:
    """On a CPU the processor's, which other processes do not move."""
    return time.perf_counter if place.type == "cuda" else time.process_time


def row(name: str, step: Step, place: torch.device, flops: float, bandwidth: float) -> dict[str, Any]:
    """The figures of a step, in milliseconds."""
    meta = checkpoint.to(step.algorithm.init(generator("profile")), place)
    tasks = batch(step, place)
    how = of_a_step(step.algorithm, meta, tasks, Wanted())

    def once() -> None:
        how.meta_grad(step.algorithm, meta, tasks)
        device.wait(place)

    def seen() -> None:  # operation by operation, where a graph is one launch
        step.algorithm.meta_grad(meta, tasks, how)
        device.wait(place)

    once()
    whole = []
    for _ in range(ROUNDS):
        begun = clock(place)()
        once()
        whole.append(clock(place)() - begun)
    labels = Labels()
    with labels:
        seen()  # to warm up, and to count
    work = dict(labels.work)
    taken, kinds = seconds(seen, labels, place), []
    for label in [*KINDS, REST]:
        if label in work:
            each = work[label]
            least = max(each.flops / flops, each.bytes / bandwidth)
            figures = {"ms": 1e3 * taken[label], "least_ms": 1e3 * least}
            about = {"calls": each.calls, "gflop": each.flops / 1e9, "gb": each.bytes / 1e9}
            kinds.append({"kind": label, **figures, **about})
    total = 1e3 * statistics.median(whole)
    kinds.append({"kind": OVERHEAD, "ms": max(total - sum(k["ms"] for k in kinds), 0.0), "least_ms": 0.0})
    strategy = f"{how.strategy} {how.chunk}" if how.strategy != "loop" else how.strategy
    least = sum(k["least_ms"] for k in kinds)
    return {"work": name, "mapping": strategy, "ms": total, "least_ms": least, "ratio": total / least, "kinds": kinds}


def main() -> int:
    parser = Parser(prog="profile_step.py", description=__doc__)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw them there, a PNG")
    parser.add_argument("--tiny", action="store_true", help="small images and networks, to try the script")
    given = parser.parse_args()
    place = device.resolve(given.device)
    device.configure("fp32", deterministic=False, threads=1)
    best = ceiling(place, *((256, 2**20) if given.tiny else (SIDE, COPIED)))
    flops, bandwidth = best["flops"], best["bytes"]
    rows = []
    for name, step in steps(tiny=given.tiny).items():
        rows.append(row(name, step, place, flops, bandwidth))
        print(f"{name}: {rows[-1]['ms']:.1f} ms, {rows[-1]['ratio']:.1f} times the least by the ceiling", flush=True)
        for each in rows[-1]["kinds"]:
            print(f"  {each['kind']:<32}{each['ms']:9.1f} ms  {100 * each['ms'] / rows[-1]['ms']:5.1f} %", flush=True)
    origin = provenance()
    report = {
        "device": hardware(place, 1),
        "ceiling": {"gflop_per_second": flops / 1e9, "gb_per_second": bandwidth / 1e9},
        "origin": {key: origin[key] for key in ("metavision", "code", "python", "packages", "processors")},
        "rows": rows,
    }
    if given.json:
        given.json.write_text(json.dumps(report, indent=1) + "\n")
    if given.chart:
        from profile_chart import draw  # beside this file

        draw(report, given.chart)
    return 0


if __name__ == "__main__":
    raise SystemExit(guarded(main))
