"""What a fine-tuning moves, as numbers that are added to named parameters.

Every way of parameter-efficient fine-tuning here is a tree of extra numbers, small or large, and a function that turns
parameters and extra numbers into parameters. So the network itself is left as it is, whatever it is made of, and all
maps over tasks.

| name       | extra numbers of                                      | that are added          |
|------------|-------------------------------------------------------|-------------------------|
| `head`     | nothing: the classifier alone is learned              |                         |
| `bitfit`   | every bias                                            | as they are             |
| `film`     | scale and shift of every normalisation                | as they are             |
| `lora`     | every matrix and convolution: B (out, r), A (r, in)   | B A, times alpha / r    |
| `adapters` | every convolution wider than a pixel, every matrix    | to its kernel's middle  |
| `all`      | every parameter                                       | as they are             |

References: BitFit (Ben Zaken et al., 2022), https://arxiv.org/abs/2106.10199; FiLM: Visual Reasoning with a General
Conditioning Layer (Perez et al., 2018), https://arxiv.org/abs/1709.07871; LoRA: Low-Rank Adaptation of Large Language
Models (Hu et al., 2022), https://arxiv.org/abs/2106.09685; Cross-domain Few-shot Learning with Task-specific Adapters
(Li, Liu and Bilen, 2022), https://arxiv.org/abs/2107.00358.

An adapter is a convolution of 1x1 beside one of k x k, with the same stride. By linearity that is the kernel with the
adapter's numbers added to its middle; beside a matrix it is another matrix added. The paper puts none beside
convolutions of 1x1, which they would replace; its adapters begin at 0.0001 of the identity, ours at 0, so that
fine-tuning begins with the network as it was; its linear map of the features is left to the classifier.

LoRA is put on all matrices and on convolutions, whose kernels are taken for matrices (out, in k k), where its paper
chooses some of a transformer's.
"""

import math
from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from metavision.errors import InputError
from metavision.nn.normalisation import Norm
from metavision.seeds import seed
from metavision.types import P

Tune = Literal["head", "bitfit", "film", "lora", "adapters", "all"]
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm, Norm)  # noqa: SLF001


def names(module: nn.Module, tune: Tune) -> list[str]:
    """The parameters that are moved.

    Raises:
        InputError: the network has none of this kind.
    """
    owned = list(_owned(module))
    found: list[str] = {
        "head": [],
        "all": [name for name, _, _ in owned],
        "bitfit": [name for name, _, _ in owned if name.endswith("bias")],
        "film": [name for name, layer, _ in owned if isinstance(layer, NORMS)],
        "lora": [name for name, layer, _ in owned if name.endswith("weight") and _linear(layer)],
        "adapters": [name for name, layer, p in owned if name.endswith("weight") and _adapted(layer, p)],
    }[tune]
    if not found and tune != "head":
        others = [other for other in get_args(Tune) if other != tune]
        raise InputError(
            f"algo.tune={tune} finds nothing to move in {type(module).__name__}; there are {', '.join(others)}"
        )
    return found


def start(module: nn.Module, tune: Tune, params: P, rank: int) -> P:
    """Extra numbers that change nothing yet.

    Those of LoRA that are drawn, A, are a function of the name and shape alone, so the same for every task.

    Args:
        module: the network.
        tune: a row of the table.
        params: its parameters.
        rank: of LoRA.
    """
    extra: P = {}
    for name in names(module, tune):
        p = params[name]
        if tune == "lora":
            out, width = len(p), p[0].numel()
            bound = 1 / math.sqrt(width)  # as in the authors' code, which takes that of a linear layer
            # Not by torch, whose draws differ between tasks that are mapped.
            drawn = np.random.default_rng(seed("lora", name, rank, width)).uniform(-bound, bound, (rank, width))
            extra[f"{name}.A"] = torch.from_numpy(drawn).to(p.dtype).to(p.device, non_blocking=True)
            extra[f"{name}.B"] = p.new_zeros(out, rank)
        elif tune == "adapters":
            extra[name] = p.new_zeros(p.shape[:2])
        else:
            extra[name] = torch.zeros_like(p)
    return extra


def tuned(tune: Tune, params: P, extra: P, scale: float = 1.0) -> P:
    """Parameters with extra numbers added.

    Args:
        tune: as the extra numbers were made.
        params: as they were.
        extra: moved from `start`.
        scale: alpha / r of LoRA.
    """
    moved = dict(params)
    if tune == "lora":
        for name in (key.removesuffix(".A") for key in extra if key.endswith(".A")):
            change = scale * extra[f"{name}.B"] @ extra[f"{name}.A"]
            moved[name] = params[name] + change.view_as(params[name])
    elif tune == "adapters":
        for name, alpha in extra.items():
            moved[name] = params[name] + _in_the_middle(alpha, params[name])
    else:
        moved |= {name: params[name] + change for name, change in extra.items()}
    return moved


def _in_the_middle(alpha: Tensor, kernel: Tensor) -> Tensor:
    """Of a kernel of zeros, (out, in) at its middle."""
    height, width = kernel.shape[2:] or (1, 1)
    wide = nn.functional.pad(alpha[..., None, None], [width // 2, width // 2, height // 2, height // 2])
    return wide.view_as(kernel)


def _owned(module: nn.Module) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Every parameter, with the layer that it is of."""
    for place, layer in module.named_modules():
        for name, p in layer.named_parameters(recurse=False):
            yield f"{place}.{name}" if place else name, layer, p


def _linear(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear | nn.Conv2d | nn.MultiheadAttention)


def _adapted(layer: nn.Module, p: Tensor) -> bool:
    """Whether a map of 1x1 beside the layer is a part of its kernel."""
    if not isinstance(layer, nn.Conv2d):
        return _linear(layer) and p.ndim == 2
    around = tuple(d * (k - 1) // 2 for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
    odd, wide = all(k % 2 for k in layer.kernel_size), max(layer.kernel_size) > 1
    return odd and wide and layer.padding in (around, "same")
