"""Weights of linear layers as bytes."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from metavision.classify import estimate
from metavision.classify.classifier import Classifier
from metavision.classify.exporting.program import name, quiet
from metavision.classify.holding_out import held_out
from metavision.classify.whole import Whole
from metavision.errors import InputError, not_installed


def quantized(whole: Whole) -> Whole:
    """The same with the weights of the backbone's linear layers as int8, a scale for each output; by torchao.

    Numbers between layers stay as they are: rounding them, too, has no form in ONNX. The head keeps its digits, since
    it is small.

    Raises:
        InputError: torchao is not installed, or there is no linear layer.
    """
    config, quantize, unwrapped = _torchao()
    if not layers(whole):
        raise InputError(f"--int8 is of linear layers, as transformers have; {name(whole)} has none in a fixed network")
    made = copy.deepcopy(whole)
    with quiet():
        quantize(made.backbone, config())
        return unwrapped(made)


def layers(whole: Whole) -> int:
    """How many layers it is of."""
    return sum(isinstance(layer, nn.Linear) for layer in whole.backbone.modules())


def compared(classifier: Classifier, small: Whole, images: Tensor, rows: list[int]) -> dict[str, Any]:
    """Accuracy before and after, in the support.

    Args:
        classifier: as it was.
        small: quantized.
        images: (m, C, H, W) uint8, of the support first.
        rows: which of the support the first ones are.
    """
    with torch.no_grad():
        before = classifier.answers(images, 0).probabilities
        after = torch.cat([small(some) for some in images.split(64)]).to(before.dtype)
        z = torch.cat([small.backbone(classifier.network.preparing.numbers(some)) for some in images.split(64)])
    support, k = classifier.support, len(classifier.support.classes)
    y, own = support.y[rows], slice(0, len(rows))
    right = [float((p[own].argmax(1) == y).double().mean()) if rows else None for p in (before, after)]
    held: list[float | None] = [None, None]
    if classifier.card.get("estimate") and len(rows) == len(support.y):
        z = z[own][torch.tensor(rows).argsort()].float()
        out = held_out(classifier.head.suited(z), z, support.y, k)
        held = [classifier.card["estimate"]["accuracy"], estimate.accuracy(out, support.y)["accuracy"] if out else None]
    return {
        "layers": layers(small),
        "images": len(images),
        "same_answer": float((before.argmax(1) == after.argmax(1)).double().mean()),
        "largest_difference": float((before - after).abs().max()),
        "right_of_support": right,
        "held_out": held,
    }


def _torchao() -> tuple[Any, Any, Any]:
    try:
        from torchao.quantization import Int8WeightOnlyConfig, quantize_
        from torchao.utils import unwrap_tensor_subclass
    except ImportError as error:
        raise not_installed("--int8", "torchao") from error
    return Int8WeightOnlyConfig, quantize_, unwrap_tensor_subclass
