"""What of the support an answer rests on."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metavision.algorithms.protonet import ProtoNet
from metavision.classify.classifier import Classifier
from metavision.classify.heads.base import Head, OfFeatures
from metavision.classify.heads.own import Own
from metavision.classify.heads.prototypes import Prototypes
from metavision.console import progress_bar
from metavision.functional.prototypes import prototypes


class Contributions(NamedTuple):
    """A logit as a sum over the support: `of_images.sum(1) + offset`.

    Args:
        of_images: (q, n).
        offset: (q,), which is no image's: the logit of what lies in the middle of all classes.
    """

    of_images: Tensor
    offset: Tensor


def centred(logits: Tensor) -> Tensor:
    """Logits (…, k) as in `Whole.logits`: how much more speaks for a class than for the average one."""
    return logits - logits.mean(-1, keepdim=True)


class _Plain(Prototypes):
    """ProtoNet's own head, which leaves features as they are."""

    def scaled(self, x: Tensor) -> Tensor:
        return x.to(torch.float64)


def _linear(head: Head, task: Any) -> tuple[OfFeatures, Any] | None:
    """A head whose logits are affine in features, and what it has learned."""
    if isinstance(head, OfFeatures):
        return head, task
    if isinstance(head, Own) and isinstance(head.algorithm, ProtoNet) and head.algorithm.metric == "euclidean":
        return None if head.sees else (_Plain(scale=1.0), task.task.cpu().to(torch.float64))
    return None


def contributions(classifier: Classifier, z: Tensor, classes: Tensor) -> Contributions | None:
    """Of every image of the support to logits of some classes; None of algorithms' own heads other than ProtoNet's.

    The weights of a head on features are a sum over the support (its representers), so the logit of x is a sum of how
    much each image weighs times how like it is to x, seen from the mean of the classes' means. Exact.

    Args:
        classifier: that answers.
        z: features (q, d) of the images asked about.
        classes: (q,) the class of each whose logit is explained.
    """
    if (found := _linear(classifier.head, classifier.task)) is None:
        return None
    head, task = found
    y, k = classifier.support.y, len(classifier.support.classes)
    points = head.scaled(classifier.support.z)
    middle = prototypes(points, y, k).mean(0)
    weights = centred(head.representers(task, classifier.support.z, y, k)) / classifier.temperature
    weight, bias = head.affine(task)
    offset = centred(middle @ weight + bias) / classifier.temperature
    likeness = (head.scaled(z) - middle) @ (points - middle).T
    return Contributions(likeness * weights.T[classes], offset[classes])


def without(classifier: Classifier, x: Tensor, rows: Sequence[int]) -> Tensor:
    """Logits (q, m, k) by the same kind of head fitted to all of the support but one of `rows` (m,).

    NaN where an image is alone in its class, which would be gone with it. The temperature stays that of the whole.

    Args:
        classifier: that answers.
        x: what its head is given of the images asked about: features (q, d), or images (q, C, H, W) as numbers.
        rows: of the support.
    """
    support, seen = classifier.support, classifier.seen()
    k, n = len(support.classes), len(support.y)
    alone = torch.bincount(support.y, minlength=k)[support.y] == 1
    logits = torch.full((len(x), len(rows), k), torch.nan, dtype=torch.float64)
    with progress_bar("leaving out", len(rows), "images") as advance:
        for place, row in enumerate(rows):
            if not alone[row]:
                rest = torch.arange(n) != row
                head = classifier.head.suited(seen[rest])
                logits[:, place] = head.logits(head.fit(seen[rest], support.y[rest], k), x)
            advance(1)
    return centred(logits) / classifier.temperature


def whole_logits(classifier: Classifier, x: Tensor) -> Tensor:
    """Logits (q, k) of what the head is given, as `without` has them."""
    return centred(classifier.head.logits(classifier.task, x)) / classifier.temperature
