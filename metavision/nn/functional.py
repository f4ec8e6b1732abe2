"""A module as a pure function of its parameters and buffers."""

import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call

from metavision.nn.normalisation import Norm, moments
from metavision.types import Inputs, P


def initial(module: nn.Module, generator: torch.Generator) -> P:
    """Fresh parameters for `module`, a function of the generator alone; the module is left as it is.

    Every layer draws as its own `reset_parameters` does, so torch's defaults hold; the global generator is put back.
    """
    fresh = copy.deepcopy(module)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        for layer in fresh.modules():
            if callable(reset := getattr(layer, "reset_parameters", None)):
                reset()
    return {name: parameter.detach() for name, parameter in fresh.named_parameters()}


def apply(module: nn.Module, params: P, buffers: P, inputs: Inputs) -> Tensor:
    """`module(x, mask)` with these parameters and buffers, (n, C, H, W) -> (n, d)."""
    return functional_call(module, {**params, **buffers}, (inputs.x, inputs.mask))


def calibrate(module: nn.Module, params: P, x: Tensor) -> P:
    """The statistics of every `Norm` of `module` over the images x (n, C, H, W), as buffers.

    One pass in which every layer normalises with the moments of x and hands them over, as in Rethinking "Batch" in
    BatchNorm (Wu and Johnson, 2021, https://arxiv.org/abs/2105.07576): exact for the weights at hand, where moving
    averages mix in those of past weights. The unbiased variance is kept, as torch does.
    """
    buffers: P = {}

    def hand_over(name: str, x: Tensor) -> None:
        mean, var = moments(x)
        count = x.numel() // x.shape[1]
        buffers[f"{name}.mean"], buffers[f"{name}.var"] = mean, var * count / (count - 1)

    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: hand_over(name, inputs[0]))
        for name, layer in module.named_modules()
        if isinstance(layer, Norm)
    ]
    try:
        with torch.no_grad():
            apply(module, params, {}, Inputs(x))
    finally:
        for hook in hooks:
            hook.remove()
    return buffers
