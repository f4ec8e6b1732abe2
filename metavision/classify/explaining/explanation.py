"""Why a classifier tells of images what it does."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metavision.classify.classifier import Classifier
from metavision.classify.explaining import evidence
from metavision.classify.explaining.saliency import Saliency, saliency
from metavision.classify.familiarity import neighbours
from metavision.classify.whole import Whole
from metavision.console import progress_bar


class Witness(NamedTuple):
    """An image of the support, and what it has to do with an answer.

    Args:
        row: of the support.
        contribution: to the logit; None where the head's logits are no sums over the support.
        without: the probability of the class without this image; None where it is alone in its class.
        influence: how much the logit is larger for it being there; None likewise.
        cosine: how like it is, as in `predict`.
    """

    row: int
    contribution: float | None
    without: float | None
    influence: float | None
    cosine: float


class Explanation(NamedTuple):
    """Of one image.

    Args:
        file: its name.
        image: (C, H, W) uint8, as the network sees it.
        probabilities: (k,).
        familiar: see `Classifier.answers`.
        explained: the class that it is about.
        logit: of that class, above that of the average class, over the temperature.
        witnesses: by contribution, or else by influence: the most for the class first.
        others: how many images of the support are not among them, and the sum of what they contribute.
        offset: what no image contributes; None with the contributions.
        seen: where in the image the evidence is.
    """

    file: str
    image: Tensor
    probabilities: Tensor
    familiar: float
    explained: int
    logit: float
    witnesses: tuple[Witness, ...]
    others: tuple[int, float]
    offset: float | None
    seen: Saliency


def explanations(
    classifier: Classifier, files: Sequence[str], about: int | None = None, most: int = 30
) -> list[Explanation]:
    """Of some images, which are held in memory together.

    Args:
        classifier: that answers.
        files: images.
        about: a class; None: the likeliest of each image.
        most: how many images of the support are told of: the largest contributions, or else the most like it.

    Raises:
        InputError: an image can't be read, or captum is not installed.
    """
    images = classifier.pixels(files)
    x, z = classifier.network.preparing.numbers(images), classifier.network.features(images)
    x = x if classifier.head.sees else z
    answers, n = classifier.answers(images, 0), len(classifier.support.names)
    classes = answers.probabilities.argmax(1) if about is None else torch.full((len(files),), about)
    logits = evidence.whole_logits(classifier, x).gather(1, classes[:, None])[:, 0]
    parts = evidence.contributions(classifier, z, classes)
    cosines = _cosines(classifier, z)
    rows = (cosines if parts is None else parts.of_images.abs()).topk(min(most, n), dim=1).indices
    asked = rows.unique()
    left = evidence.without(classifier, x, asked.tolist())
    whole, found = Whole(classifier).eval(), []
    with progress_bar("explaining", len(files), "images") as advance:
        for i, file in enumerate(files):
            c, mine = int(classes[i]), left[i, torch.searchsorted(asked, rows[i])]
            witnesses = _witnesses(
                rows[i], c, logits[i], mine, None if parts is None else parts.of_images[i], cosines[i]
            )
            rest = 0.0 if parts is None else float(parts.of_images[i].sum() - parts.of_images[i][rows[i]].sum())
            found.append(
                Explanation(
                    file,
                    images[i],
                    answers.probabilities[i],
                    float(answers.familiar[i]),
                    c,
                    float(logits[i]),
                    witnesses,
                    (n - len(rows[i]), rest),
                    None if parts is None else float(parts.offset[i]),
                    saliency(whole, images[i], c),
                )
            )
            advance(1)
    return found


def _witnesses(
    rows: Tensor, c: int, logit: Tensor, left: Tensor, contributions: Tensor | None, cosines: Tensor
) -> tuple[Witness, ...]:
    """Of the images `rows` (m,), by logits (m, k) without each of them."""
    p, influence = left.softmax(1)[:, c], logit - left[:, c]
    found = [
        Witness(
            row,
            None if contributions is None else float(contributions[row]),
            None if influence[i].isnan() else float(p[i]),
            None if influence[i].isnan() else float(influence[i]),
            float(cosines[row]),
        )
        for i, row in enumerate(rows.tolist())
    ]
    return tuple(sorted(found, key=lambda one: -(one.influence or 0 if one.contribution is None else one.contribution)))


def _cosines(classifier: Classifier, z: Tensor) -> Tensor:
    """(q, n) of all of the support, in its order."""
    values, where = neighbours(z, classifier.support.z, len(classifier.support.z))
    return torch.empty_like(values).scatter(1, where, values)
