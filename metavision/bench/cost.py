"""What a call costs by its nature, and what the device could do at most."""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode, flop_registry, shape_wrapper

from metavision.engine import device as devices
from metavision.engine.footprint import Footprint

SIDE = 2048  # of the matrices: large enough for a core's best, and 50 MB
COPIED = 2**26  # numbers, 256 MB: more than caches hold
ON_A_GPU = 4  # times as large, both, since it is so much faster
REPEATS = 7
BACKWARD = torch.ops.aten.convolution_backward


def _convolution_backward(grad: torch.Size, x: torch.Size, weight: torch.Size, *rest: Any, **_: Any) -> int:
    """FLOPs, from shapes: as many as forward for each of the gradients asked for. Torch's own formula (2.11) takes a
    grouped convolution for a full one."""
    asked = rest[-1]
    return 2 * x[0] * math.prod(grad[2:]) * math.prod(weight) * (asked[0] + asked[1])


# Of an operation, from its arguments and `out_val`.
FORMULAS = {**flop_registry, BACKWARD: shape_wrapper(_convolution_backward)}


def counted(call: Callable[[], object]) -> dict[str, Any]:
    """FLOPs of a call's matrix products and convolutions (a multiplication and an addition are two), and the bytes of
    all tensors that it makes, each once: what a machine without a cache would write at least."""
    own = {BACKWARD: _convolution_backward}
    with FlopCounterMode(display=False, custom_mapping=own) as flops, Footprint() as bytes_:
        call()
    return {"flops": flops.get_total_flops(), "bytes": bytes_.made}


def ceiling(device: torch.device, side: int = SIDE, copied: int = COPIED) -> dict[str, float]:
    """What this device reaches in float32 at its best: `flops` a second in a product of large matrices or a convolution
    of many maps, the faster; `bytes` a second, read and written, in a copy. Medians, on as many threads as torch is set
    to. A library's products may leave out what a processor can do (MKL's do AVX-512 on AMD's); where it convolves by
    fewer multiplications (cuDNN may), the FLOPs are those that it spares, too."""
    if device.type == "cuda":
        side, copied = ON_A_GPU * side, ON_A_GPU * copied
    a, b = (torch.rand(side, side, device=device) for _ in range(2))
    out = torch.empty_like(a)
    maps = torch.rand(side // 32, 64, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    kernel = torch.rand(64, 64, 3, 3, device=device)
    source, target = (torch.ones(copied, device=device) for _ in range(2))
    product = 2 * side**3 / _seconds(lambda: torch.mm(a, b, out=out), device)
    convolution = 2 * maps.numel() * kernel[0].numel() / _seconds(lambda: F.conv2d(maps, kernel, padding=1), device)
    return {
        "flops": max(product, convolution),
        "bytes": 2 * 4 * copied / _seconds(lambda: target.copy_(source), device),
    }


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    """Median of a call, process CPU time on one thread of a CPU, else by the clock on the wall."""
    found = []
    for _ in range(REPEATS + 1):
        begun = _now(device)
        call()
        found.append(_now(device) - begun)
    return statistics.median(found[1:])


def _now(device: torch.device) -> float:
    devices.wait(device)
    by_cpu = device.type != "cuda" and torch.get_num_threads() == 1
    return time.process_time() if by_cpu else time.perf_counter()
