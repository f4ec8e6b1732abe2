"""The LSTM cell, written out, since the library's maps over no tasks and has no second derivative on GPUs."""

from torch import Tensor

from metavision.types import P


def lstm_cell(params: P, x: Tensor, h: Tensor, c: Tensor, suffix: str = "") -> tuple[Tensor, Tensor]:
    """One step of torch's LSTM: x (n, i), h and c (n, d) -> the next h and c.

    Reference: Long Short-Term Memory (Hochreiter and Schmidhuber, 1997).

    Args:
        params: `weight_ih`, `weight_hh`, `bias_ih`, `bias_hh`, as torch names and shapes them.
        suffix: behind these names, such as `_l0_reverse`.
    """
    gates = x @ params[f"weight_ih{suffix}"].T + params[f"bias_ih{suffix}"]
    gates = gates + h @ params[f"weight_hh{suffix}"].T + params[f"bias_hh{suffix}"]
    i, f, g, o = gates.chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c
