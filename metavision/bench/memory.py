"""How much memory a call needs beyond what the process already holds."""

import ctypes
import gc
import platform
from collections.abc import Callable
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def growth(call: Callable[[], object], device: torch.device) -> int | None:
    """Bytes by which the most that is held during a call exceeds what was held before; None where it can't be known.

    On a CPU: the process's resident memory as Linux counts it (VmRSS before, VmHWM after), with freed blocks given back
    first and the peak set anew. On CUDA: what torch has allocated in a second call, and what the first has kept for it,
    as a recorded graph does.
    """
    give_back(device)
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device)
        call()  # in which cuDNN tries its algorithms, in memory that the work itself does not take
        give_back(device)
        kept, before = torch.cuda.memory_reserved(device) - idle, torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        torch.cuda.synchronize(device)
        return kept + torch.cuda.max_memory_allocated(device) - before
    if not CLEAR.exists():
        call()
        return None
    CLEAR.write_text("5")  # the peak is what is resident now
    before = resident()
    call()
    return max(_status("VmHWM") - before, 0)


def give_back(device: torch.device) -> None:
    """Returns what is freed but kept to the system."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def resident() -> int:
    """Bytes of this process in memory."""
    return _status("VmRSS")


def _status(key: str) -> int:
    """Bytes."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return 1024 * int(line.split()[1])
