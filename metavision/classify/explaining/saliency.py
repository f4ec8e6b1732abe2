"""Where in an image the evidence for a class is."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from metavision.classify.whole import Whole
from metavision.errors import not_installed

STEPS, MOST = 64, 2048  # along the path; doubled until what is missing of the sum is small
SMALL = 0.01  # of the difference that is to be explained, or of a logit where that is smaller
TOGETHER = 32  # images that are differentiated at once


class Saliency(NamedTuple):
    """A logit as a sum over pixels: `pixels.sum()` is `logit - baseline`, but for the error of the integral.

    Args:
        pixels: (C, H, W).
        logit: of the image.
        baseline: of the image that it is compared with.
    """

    pixels: Tensor
    logit: float
    baseline: float


def saliency(whole: Whole, image: Tensor, c: int) -> Saliency:
    """Integrated gradients of the logit of class c, from an image of one colour: that of this image on average.

    Reference:
        Axiomatic Attribution for Deep Networks (Sundararajan et al., 2017), https://arxiv.org/abs/1703.01365; captum's.

    The path is divided until attributions sum to the difference of the logits within a hundredth.

    Args:
        whole: the classifier.
        image: (C, H, W), bytes or numbers in [0, 1].
        c: a class.

    Raises:
        InputError: captum is not installed.
    """
    x = image[None].float() / 255 if image.dtype == torch.uint8 else image[None].clone()
    x = x.to(next(whole.buffers(), x).device).requires_grad_()
    flat = x.detach().mean((2, 3), keepdim=True).expand_as(x).contiguous().requires_grad_()
    with torch.no_grad():
        logit, baseline = whole.logits(torch.cat([x, flat]))[:, c].tolist()
    steps, method = STEPS, integrated_gradients()(whole.logits)
    while True:
        pixels = method.attribute(x, flat, target=c, n_steps=steps, internal_batch_size=TOGETHER)[0].detach().cpu()
        missing = abs(float(pixels.sum()) - (logit - baseline))
        if missing <= SMALL * max(abs(logit - baseline), 1.0) or steps >= MOST:
            return Saliency(pixels, logit, baseline)
        steps *= 2


def integrated_gradients() -> Any:
    """Captum's.

    Raises:
        InputError: it is not installed.
    """
    try:
        from captum.attr import IntegratedGradients
    except ImportError as error:
        raise not_installed("explain", "captum") from error
    return IntegratedGradients
