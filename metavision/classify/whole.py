"""A classifier as one module of PyTorch, from images to probabilities: what is exported, and what saliency is of."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from metavision.classify.classifier import Classifier
from metavision.classify.heads.base import Head, OfFeatures
from metavision.classify.heads.own import Own
from metavision.types import Meta


class Whole(nn.Module):
    """Images (n, C, H, W), bytes or numbers in [0, 1], to calibrated probabilities (n, k) as `Classifier.answers` has
    them but for rounding, in single precision.

    Args:
        classifier: with a head on features of norm 1, or an algorithm's own.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        network, head = classifier.network, classifier.head
        self.preparing, self.temperature = network.preparing, classifier.temperature
        self.backbone = nn.Identity() if head.sees else network.module()
        self.head = _module(head, classifier)

    def forward(self, images: Tensor) -> Tensor:
        """Probabilities (n, k)."""
        return self.logits(images).softmax(1)

    def logits(self, images: Tensor) -> Tensor:
        """(n, k), whose mean over the classes is 0: how much more speaks for one than for the average class."""
        logits = self.head(self.backbone(self.preparing.numbers(images))) / self.temperature
        return logits - logits.mean(1, keepdim=True)


def _module(head: Head, classifier: Classifier) -> nn.Module:
    if isinstance(head, Own):
        return _OfAlgorithm(head, classifier)
    assert isinstance(head, OfFeatures)
    return _Affine(head, classifier)


class _Affine(nn.Module):
    """A head on features of norm 1. What its classes have in common is taken off while there are digits for it."""

    def __init__(self, head: OfFeatures, classifier: Classifier) -> None:
        super().__init__()
        weight, bias = head.affine(classifier.task)
        weight = (weight - weight.mean(1, keepdim=True)) / head.spread**0.5
        place = classifier.network.device
        self.register_buffer("weight", weight.T.to(place, torch.float32).contiguous())
        self.register_buffer("bias", (bias - bias.mean()).to(place, torch.float32))

    def forward(self, z: Tensor) -> Tensor:
        return F.linear(F.normalize(z), self.weight, self.bias)  # type: ignore[arg-type]


class _OfAlgorithm(nn.Module):
    """An algorithm's `predict`, with all that it has learned as buffers."""

    def __init__(self, head: Own, classifier: Classifier) -> None:
        super().__init__()
        self.own = head
        leaves, self.structure = pytree.tree_flatten((head.meta, classifier.task))
        tensors = {i: leaf for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)}
        self.leaves = [None if i in tensors else leaf for i, leaf in enumerate(leaves)]
        for i, tensor in tensors.items():
            own = tensor.detach().to(classifier.network.device).clone(memory_format=torch.contiguous_format)
            self.register_buffer(f"learned_{i}", own)

    def forward(self, x: Tensor) -> Tensor:
        buffers = dict(self.named_buffers())
        leaves = [buffers.get(f"learned_{i}", leaf) for i, leaf in enumerate(self.leaves)]
        meta, task = pytree.tree_unflatten(leaves, self.structure)
        return Own(self.own.algorithm, Meta(*meta)).predicted(task, x)
