"""FLOPs and bytes against what a product of matrices is known to take; memory against what is held."""

import subprocess
import sys
from itertools import accumulate

import pytest
import torch

from metavision.bench import cost, memory

CPU = torch.device("cpu")


def test_a_product_is_counted() -> None:
    a, b = torch.rand(3, 5), torch.rand(5, 7)
    assert cost.counted(lambda: a @ b) == {"flops": 2 * 3 * 5 * 7, "bytes": 4 * 3 * 7}


@pytest.mark.parametrize("groups", [1, 3])
def test_a_convolution_and_its_gradients_are_counted(groups: int) -> None:
    """A multiplication and an addition for every pixel, output channel and number of its kernel, three times."""
    x = torch.rand(2, 4 * groups, 8, 8, requires_grad=True)
    weight = torch.rand(5 * groups, 4, 3, 3, requires_grad=True)
    once = 2 * 2 * 8 * 8 * 5 * groups * 4 * 9

    def forward() -> torch.Tensor:
        return torch.nn.functional.conv2d(x, weight, padding=1, groups=groups)

    assert cost.counted(forward)["flops"] == once
    assert cost.counted(lambda: forward().sum().backward())["flops"] == 3 * once


@pytest.mark.parametrize("slow", [1, 1000], ids=["convolution", "product"])
def test_a_ceiling_is_work_over_the_median_of_times(slow: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock of our own: a first call that does not count, and seven. Whichever is the faster counts."""
    taken = [50, 9, 1, 1, 2, 9, 9, 1]
    now = accumulate(n for factor in (1, slow, 1) for seconds in taken for n in (0, factor * seconds))
    monkeypatch.setattr(cost, "_now", lambda _: next(now))
    flops = 2 * 64**3 if slow > 1 else 2 * (2 * 32 * 32) * 64 * 64 * 9
    assert cost.ceiling(CPU, side=64, copied=2**12) == {"flops": flops / 2, "bytes": 2 * 4 * 2**12 / 2}


BLOCKS = """
import torch
from metavision.bench import memory
before = torch.ones(2**25)
def one_after_another():
    for _ in range(2):
        torch.ones(2**24)
def both():
    return [torch.ones(2**24) for _ in range(2)]
print(*(memory.growth(call, torch.device("cpu")) for call in (one_after_another, both)), before[0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_is_what_a_call_holds_at_its_peak() -> None:
    """Of two blocks of 64 MiB one after the other, one; of both at once, two; whatever was held before.

    In a process of its own, whose allocator is as torch has it.
    """
    done = subprocess.run([sys.executable, "-c", BLOCKS], capture_output=True, text=True, check=True)
    one, two = map(int, done.stdout.split()[:2])
    assert one == pytest.approx(2**26, rel=0.1) and two == pytest.approx(2**27, rel=0.1)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_what_is_freed_is_given_back() -> None:
    """However the process keeps memory: blocks among others that stay, which no allocator returns by itself."""
    blocks = [torch.ones(2**12) for _ in range(2**12)]  # 64 MiB, in the heap
    held = memory.resident()
    blocks = blocks[::16]
    memory.give_back(CPU)
    assert held - memory.resident() > 2**25 and len(blocks) == 2**8
