"""How sure answers may be: a temperature from logits of images that were held out."""

import numpy as np
from torch import Tensor

LOWEST, HIGHEST = 1e-3, 1e3  # temperatures


def temperature(logits: Tensor, y: Tensor, n: int) -> float:
    """The temperature by which held-out logits (m, k) of n images tell their labels y (m,) best.

    Reference:
        On Calibration of Modern Neural Networks (Guo et al., 2017), https://arxiv.org/abs/1706.04599; targets as in
        Probabilistic Outputs for Support Vector Machines (Platt, 1999): 1 - 1 / (n + 2) for the label, since n images,
        all told right, are no proof of certainty.
    """
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda log_t: cost(logits, y, n, float(np.exp(log_t))),
        bounds=(np.log(LOWEST), np.log(HIGHEST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def cost(logits: Tensor, y: Tensor, n: int, t: float) -> float:
    """Mean cross-entropy of logits / t with labels smoothed for n images."""
    k = logits.shape[1]
    log_p = (logits / t).log_softmax(1)
    doubt = 1 / (n + 2)
    label = log_p.gather(1, y[:, None])[:, 0]
    others = (log_p.sum(1) - label) / (k - 1)
    return -float(((1 - doubt) * label + doubt * others).mean())
