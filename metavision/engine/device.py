"""The device and its numerics."""

import os
import platform
import re
import resource
import sys
from pathlib import Path

import torch

from metavision.engine import ranks
from metavision.errors import InputError

THREADS = torch.get_num_threads()  # torch's own choice, which an earlier job of this process may have changed


def resolve(name: str) -> torch.device:
    """`auto` takes CUDA where there is one, else the CPU; mps only when asked for (it is untested).

    Raises:
        InputError: the device asked for is not here.
    """
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = "cuda" if here["cuda"] else "cpu"
    if not here.get(name):
        raise InputError(
            f"device={name} is not here; there is {', '.join(d for d, is_here in here.items() if is_here)}"
        )
    # Of several processes each has its own, by number, since a thread begins with the first device as the current one.
    return (
        torch.device(name, torch.cuda.current_device()) if name == "cuda" and ranks.count() > 1 else torch.device(name)
    )


def configure(precision: str, *, deterministic: bool, threads: int | None) -> None:
    """Sets torch's process-wide switches: TF32, deterministic kernels and CPU threads."""
    if threads is not None and threads < 1:
        raise InputError(f"engine.threads is {threads}; at least 1 is needed")
    torch.set_num_threads(threads or THREADS)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # asked for by CUDA's matrix products
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    if deterministic != torch.are_deterministic_algorithms_enabled():  # setting it imports the compiler: a second
        torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic


def model(device: torch.device) -> str:
    """What the device's speed depends on: a GPU's name, or that of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()}, {torch.backends.cpu.get_cpu_capability()}"


def processor() -> str:
    """The model of the CPU, as far as the system says it."""
    about = Path("/proc/cpuinfo")
    text = about.read_text(encoding="utf-8", errors="replace") if about.exists() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def wait(device: torch.device) -> None:
    """Until all that was asked of the device is done, as a clock needs it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device) -> int:
    """Bytes of the device that tensors have held at once; of the host, what the process has."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def name(device: torch.device) -> str:
    """The device in words, for the record."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
