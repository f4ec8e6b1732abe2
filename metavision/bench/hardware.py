"""The machine in words, for the record of a measurement."""

import os
import platform
import re
from pathlib import Path

import torch

CPUINFO = Path("/proc/cpuinfo")


def hardware(device: torch.device, threads: int) -> str:
    """Such as `AMD EPYC, 1 of 2 threads`, or the name of a GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    text = CPUINFO.read_text(encoding="utf-8", errors="replace") if CPUINFO.exists() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return f"{found[1] if found else platform.processor() or platform.machine()}, {threads} of {os.cpu_count()} threads"
