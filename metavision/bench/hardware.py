"""The machine in words, for the record of a measurement."""

import os

import torch

from metavision.engine import device as devices


def hardware(device: torch.device, threads: int) -> str:
    """Such as `AMD EPYC, 1 of 2 threads`, or the name of a GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{devices.processor()}, {threads} of {os.cpu_count()} threads"
