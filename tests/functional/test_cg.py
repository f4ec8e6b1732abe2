"""Conjugate gradients against a direct solution."""

import pytest
import torch
from torch.func import vmap

from metavision.functional.cg import conjugate_gradients
from metavision.seeds import generator

pytestmark = pytest.mark.usefixtures("float64")


def system(tasks: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    g = generator("cg")
    half = torch.randn(tasks, 6, 6, generator=g)
    return half @ half.mT + torch.eye(6), torch.randn(tasks, 6, generator=g)


def solve(a: torch.Tensor, b: torch.Tensor, iterations: int) -> torch.Tensor:
    def matvec(v: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        image = a @ torch.cat([v["x"], v["y"]])
        return {"x": image[:2], "y": image[2:]}

    found = conjugate_gradients(matvec, {"x": b[:2], "y": b[2:]}, iterations)
    return torch.cat([found["x"], found["y"]])


def test_as_many_iterations_as_unknowns_solve_it() -> None:
    a, b = system()
    torch.testing.assert_close(solve(a[0], b[0], 6), torch.linalg.solve(a[0], b[0]), rtol=1e-8, atol=1e-10)
    # More do no harm, where the residual is zero but for rounding.
    torch.testing.assert_close(solve(a[0], b[0], 50), torch.linalg.solve(a[0], b[0]), rtol=1e-8, atol=1e-10)


def test_it_maps_over_systems() -> None:
    a, b = system()
    together = vmap(lambda a, b: solve(a, b, 20))(a, b)
    torch.testing.assert_close(together, torch.linalg.solve(a, b), rtol=1e-8, atol=1e-10)


def test_negative_curvature_and_zeros_end_it() -> None:
    b = torch.tensor([1.0, 0.0, 0.0, 2.0, 0.0, 0.0])
    assert torch.equal(solve(-torch.eye(6), b, 5), b)
    assert torch.equal(solve(torch.eye(6), torch.zeros(6), 5), torch.zeros(6))


def test_after_negative_curvature_nothing_moves() -> None:
    a, g = torch.diag(torch.tensor([10.0, 3.0, -0.5, 1.0, 2.0, 4.0])), generator("negative")
    for _ in range(50):
        b = torch.randn(6, generator=g)
        found, residual = [solve(a, b, n) for n in range(1, 8)], b.clone()
        direction, ended = b.clone(), len(found)
        for n in range(6):  # the textbook's, until a direction curves the wrong way
            curvature = direction @ a @ direction
            if curvature <= 0:
                ended = n
                break
            step = residual @ residual / curvature
            new = residual - step * a @ direction
            direction, residual = new + (new @ new) / (residual @ residual) * direction, new
        for later in found[max(ended, 1) :]:
            torch.testing.assert_close(later, found[max(ended, 1) - 1])
