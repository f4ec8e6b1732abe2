"""A module as a pure function of its parameters and buffers."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from metavision.nn.normalisation import Norm, moments
from metavision.types import Inputs, P

CALIBRATED_TOGETHER = 128  # images; at 84 pixels a pass of Conv4-64 then holds about 1 GiB


def initial(module: nn.Module, generator: torch.Generator) -> P:
    """Fresh parameters for `module`, a function of the generator alone; the module is left as it is.

    Every layer draws as its own `reset_parameters` does, so torch's defaults hold; the global generator is put back.
    A module that has a method `initial` knows better, as one with pre-trained weights does.
    """
    if callable(own := getattr(module, "initial", None)):
        return own(generator)
    fresh = copy.deepcopy(module)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        for layer in fresh.modules():
            if callable(reset := getattr(layer, "reset_parameters", None)):
                reset()
    return {name: parameter.detach() for name, parameter in fresh.named_parameters()}


def stored(module: nn.Module) -> P:
    """The statistics that torch's own layers of batch normalisation hold."""
    layers = ((name, m) for name, m in module.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))  # noqa: SLF001
    kept = ("running_mean", "running_var")
    return {f"{name}.{key}": t for name, layer in layers for key, t in layer.named_buffers() if key in kept}


def apply(module: nn.Module, params: P, buffers: P, inputs: Inputs) -> Tensor:
    """`module(x, mask)` with these parameters and buffers, (n, C, H, W) -> (n, d)."""
    return functional_call(module, {**params, **buffers}, (inputs.x, inputs.mask))


def calibrate(module: nn.Module, params: P, x: Tensor) -> P:
    """The statistics of every `Norm` of `module` over the images x (n, C, H, W), as buffers.

    A pass in which every layer normalises with the moments of its batch and hands them over, as in Rethinking "Batch"
    in BatchNorm (Wu and Johnson, 2021, https://arxiv.org/abs/2105.07576): exact for the weights at hand, where moving
    averages mix in those of past weights. As there, batches are normalised by themselves and their moments are put
    together, so that memory is bounded. The unbiased variance is kept, as torch does.
    """
    with torch.no_grad(), moments_seen(module) as found:
        for batch in x.tensor_split(math.ceil(len(x) / CALIBRATED_TOGETHER)):
            apply(module, params, {}, Inputs(batch))
    return statistics(found)


Seen = dict[str, list[tuple[Any, Tensor, Tensor]]]  # count, mean and biased variance of every batch, by layer


@contextmanager
def moments_seen(module: nn.Module) -> Iterator[Seen]:
    """The moments of what every `Norm` of `module` is given, for as long as this lasts."""
    found: Seen = {}

    def hand_over(name: str, x: Tensor, mask: Tensor | None = None) -> None:
        images = len(x) if mask is None else mask.sum()
        found.setdefault(name, []).append((images * x.shape[2] * x.shape[3], *moments(x, mask)))

    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: hand_over(name, *inputs))
        for name, layer in module.named_modules()
        if isinstance(layer, Norm)
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def statistics(found: Seen) -> P:
    """Moments that were seen, as the buffers of the layers that saw them."""
    buffers: P = {}
    for name, parts in found.items():
        buffers[f"{name}.mean"], buffers[f"{name}.var"] = _together(parts)
    return buffers


def _together(parts: list[tuple[Any, Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance of a whole, from count, mean and biased variance of its parts."""
    count = sum(n for n, _, _ in parts)
    mean = torch.stack([n / count * mean for n, mean, _ in parts]).sum(0)
    var = torch.stack([n / count * (var + (m - mean).square()) for n, m, var in parts]).sum(0)
    return mean, var * count / (count - 1)
