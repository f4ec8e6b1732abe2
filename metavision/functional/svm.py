"""The multi-class support vector machine as a differentiable function of its Gram matrix."""

import torch
from torch import Tensor

PRICE, FLOOR = 1e8, 1e-10
BOUNDARY = 0.99  # of the way to where a slack or multiplier would vanish


def crammer_singer(
    gram: Tensor, y: Tensor, penalty: float, iterations: int = 15, present: Tensor | None = None
) -> Tensor:
    """Dual coefficients a (n, k) of the machine of Crammer and Singer: its weights are z'a for features z (n, d).

    Reference:
        On the Algorithmic Implementation of Multiclass Kernel-based Vector Machines (Crammer and Singer, 2001), and
        Meta-Learning with Differentiable Convex Optimization (Lee et al., 2019), https://arxiv.org/abs/1904.03758:
        the least sum_c a_c' K a_c / 2 - sum_i a_{i, y_i} where a_ic <= penalty [c = y_i] and sum_c a_ic = 0.

    Solved by a primal-dual interior-point method (Mehrotra's predictor and corrector) for a fixed number of
    iterations, so that it maps over tasks. The gradient is that of the implicit function: one Newton step from the
    solution, of which only the Gram matrix in the optimality conditions is differentiated.

    Differs from the authors' code in that no identity is added to the quadratic form.

    Args:
        gram: K = z z' (n, n). A row and column of zeros belongs to padding, and changes nothing.
        y: one-hot labels (n, k).
        penalty: C, of the slacks.
        iterations: of the method; 15 leave errors near rounding.
        present: (k,) bool, whether there is such a class; None: there are all.
    """
    n, k = y.shape
    # Single precision is lost where constraints become active; on Apple's GPUs there is no other.
    wide = torch.float32 if gram.device.type == "mps" else torch.float64
    floor = FLOOR if wide == torch.float64 else FLOOR**0.5
    target = y.to(wide).reshape(-1)
    bound = penalty * target
    rows = torch.eye(n, dtype=wide, device=y.device).repeat_interleave(k, 1)  # (n, n k): sums over classes
    price = torch.zeros_like(target)
    if present is not None:  # coefficients of absent classes cost too much to be anything but 0
        absent = ~present.repeat(n)
        price, bound = absent.to(wide) * PRICE, torch.where(absent, penalty, bound)
    quadratic = _quadratic(gram.detach().to(wide), k) + torch.diag(price)

    def solve(curvature: Tensor, by_x: Tensor, by_sum: Tensor) -> tuple[Tensor, Tensor]:
        corner = torch.zeros(n, n, dtype=wide, device=y.device)
        # A floor, since equal examples share their coefficients in any way.
        top = torch.cat([quadratic + torch.diag(curvature + floor), rows.T], 1)
        system = torch.cat([top, torch.cat([rows, corner], 1)])
        # Not torch.linalg.solve, which waits for a GPU to ask whether the system is singular; by the floor it is not.
        step = torch.linalg.solve_ex(system, torch.cat([by_x, by_sum]).unsqueeze(-1))[0].squeeze(-1)
        return step[: n * k], step[n * k :]

    x = torch.zeros_like(target)
    slack, multiplier = bound + penalty, torch.ones_like(target)
    nu = torch.zeros(n, dtype=wide, device=y.device)
    for _ in range(iterations):
        dual = quadratic @ x - target + multiplier + rows.T @ nu
        primal, sums = x + slack - bound, rows @ x
        gap = (slack * multiplier).mean()

        def direction(
            aim: Tensor,
            *,
            dual: Tensor = dual,
            primal: Tensor = primal,
            sums: Tensor = sums,
            s: Tensor = slack,
            m: Tensor = multiplier,
        ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            dx, dnu = solve(m / s, -dual + (aim - m * primal) / s, -sums)
            ds = -primal - dx
            return dx, ds, (-aim - m * ds) / s, dnu

        _, ds, dm, _ = direction(slack * multiplier)
        far = torch.minimum(_reach(slack, ds), _reach(multiplier, dm))
        ahead = ((slack + far * ds) * (multiplier + far * dm)).mean()
        aim = slack * multiplier + ds * dm - gap * (ahead / gap) ** 3
        dx, ds, dm, dnu = direction(aim)
        step = BOUNDARY * torch.minimum(_reach(slack, ds), _reach(multiplier, dm))
        x, slack = x + step * dx, slack + step * ds
        multiplier, nu = multiplier + step * dm, nu + step * dnu
    residual = _quadratic(gram.to(wide), k) @ x + price * x - target + multiplier + rows.T @ nu
    correction, _ = solve(multiplier / slack, -residual, -(rows @ x))
    return (x + correction).view(n, k).to(gram.dtype)


def _quadratic(gram: Tensor, k: int) -> Tensor:
    """K for each class: (n k, n k), the classes of an example beside each other."""
    return torch.kron(gram, torch.eye(k, dtype=gram.dtype, device=gram.device))


def _reach(value: Tensor, change: Tensor) -> Tensor:
    """How much of a change, at most all of it, leaves the value positive."""
    ratios = torch.where(change < 0, -value / torch.where(change < 0, change, -1.0), torch.inf)
    return ratios.min().clamp(max=1.0)
