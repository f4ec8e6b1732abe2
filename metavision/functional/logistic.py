"""Multinomial logistic regression, solved to the optimum."""

import torch
from torch import Tensor

STEPS = (1.0, 0.5, 0.25, 0.0625, 0.0)  # fractions of a Newton step that are tried


def logistic(z: Tensor, y: Tensor, penalty: float, iterations: int = 12) -> tuple[Tensor, Tensor]:
    """The weights W (d, k) and offsets b (k,) with the least penalty * sum_i CE(z_i W + b, y_i) + |W|^2 / 2.

    As scikit-learn's LogisticRegression with C = penalty: offsets are free. By Newton's method in the span of the
    examples (W = z'a), for a fixed number of iterations, each of the step that lowers the loss most, so that it maps
    over tasks. Not to be differentiated through.

    Args:
        z: features (n, d); a row of zeros with a row of zeros in y belongs to padding, and changes nothing.
        y: one-hot labels (n, k).
        penalty: C.
        iterations: Newton steps.
    """
    n, k = y.shape
    gram, y = z @ z.T, y.to(z.dtype)
    present = y.sum(1)
    eye = torch.eye(k, dtype=z.dtype, device=z.device)

    def loss(a: Tensor, b: Tensor) -> Tensor:
        logits = gram @ a + b
        return penalty * ((logits.logsumexp(1) * present).sum() - (logits * y).sum()) + (a * (gram @ a)).sum() / 2

    a, b = torch.zeros_like(y), torch.zeros(k, dtype=z.dtype, device=z.device)
    for _ in range(iterations):
        p = (gram @ a + b).softmax(1)
        wrong = penalty * (p * present.unsqueeze(1) - y)
        # How the slopes of an example's classes change with its logits: (n, k, k).
        curved = penalty * present.view(-1, 1, 1) * (torch.diag_embed(p) - p.unsqueeze(2) * p.unsqueeze(1))
        by_a = torch.einsum("icd,ij->icjd", curved, gram) + torch.einsum("ij,cd->icjd", torch.eye(n).to(gram), eye)
        a_side = torch.cat([by_a.reshape(n * k, n * k), curved.reshape(n * k, k)], 1)
        # All offsets may shift together; adding 1 holds them.
        b_side = torch.cat([torch.einsum("icd,ij->cjd", curved, gram).reshape(k, n * k), curved.sum(0) + 1], 1)
        slope = torch.cat([(wrong + a).reshape(-1), wrong.sum(0)])
        step = torch.linalg.solve(torch.cat([a_side, b_side]), -slope.unsqueeze(1)).squeeze(1)
        da, db = step[: n * k].view(n, k), step[n * k :]
        tried = torch.tensor(STEPS, dtype=z.dtype, device=z.device)
        best = tried[torch.stack([loss(a + s * da, b + s * db) for s in STEPS]).nan_to_num(torch.inf).argmin()]
        a, b = a + best * da, b + best * db
    return z.T @ a, b
