"""Conjugate gradients on parameter trees."""

from collections.abc import Callable

import torch

from metavision import trees
from metavision.types import P


def conjugate_gradients(matvec: Callable[[P], P], b: P, iterations: int, tolerance: float = 1e-10) -> P:
    """An approximate solution x of A x = b, for a symmetric positive definite A given as `matvec`.

    Reference: Methods of Conjugate Gradients for Solving Linear Systems (Hestenes and Stiefel, 1952).

    From zero, for a fixed number of iterations, so that it maps over tasks; a residual below `tolerance` times |b|, and
    a direction of negative curvature, on which no step would make sense, end the movement. If that is the first
    direction, b itself is returned.
    """
    x, residual, direction = trees.scale(b, 0.0), b, b
    square = trees.dot(b, b)
    enough = tolerance**2 * square
    going = torch.ones_like(square, dtype=torch.bool)
    for i in range(iterations):
        image = matvec(direction)
        curvature = trees.dot(direction, image)
        going = going & (square > enough) & (curvature > 0)
        if i == 0:
            x = trees.scale(b, torch.where(curvature > 0, 0.0, 1.0))
        step = torch.where(going, square / torch.where(going, curvature, 1.0), 0.0)
        x = trees.add(x, trees.scale(direction, step))
        residual = trees.add(residual, trees.scale(image, -step))
        last, square = square, trees.dot(residual, residual)
        direction = trees.add(residual, trees.scale(direction, square / torch.where(going, last, 1.0)))
    return x
