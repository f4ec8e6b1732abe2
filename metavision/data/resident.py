"""Where the bytes of a split live while a run uses them: on the device, in pinned memory of the host, or on disk."""

import os
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from metavision.data import transfer
from metavision.data.source import Source

PIECE = 4096  # images that are moved at a time, so that no second copy of a split is ever held
SHARE = 0.5  # of a GPU's free memory, and of the host's, that a split may take unless told otherwise
IN_MEMORY = 2**30  # bytes on a CPU: above this the memory map is as quick, and leaves memory to others


class Resident(Protocol):
    """The images of a split."""

    where: str
    device: torch.device

    def take(self, index: np.ndarray) -> Tensor:
        """(n, C, H, W) uint8 on the device."""
        ...


def resident(source: Source, device: torch.device, budget: float | None = None) -> Resident:
    """Puts a split where it fits: on the device, else into pinned memory, else it stays in its memory map.

    Args:
        source: the split.
        device: where batches are wanted.
        budget: bytes that it may take there; None: half of what is free, and 1 GiB on a CPU.
    """
    size = len(source) * int(np.prod(source.images.shape[1:]))
    if device.type == "cpu":
        return Held(source, device) if size <= (IN_MEMORY if budget is None else budget) else Mapped(source, device)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _host_memory()
    if size <= (free * SHARE if budget is None else budget):
        return Held(source, device)
    if device.type == "cuda" and size <= _host_memory() * SHARE:
        return Pinned(source, device)
    return Mapped(source, device)


class Held:
    """All images on the device."""

    def __init__(self, source: Source, device: torch.device) -> None:
        self.device, self.where = device, "in memory" if device.type == "cpu" else f"on {device}"
        self.images = torch.empty(len(source), *source.images.shape[1:], dtype=torch.uint8, device=device)
        _copy(source, self.images)

    def take(self, index: np.ndarray) -> Tensor:
        return self.images.index_select(0, transfer.to(self.device, index))


class Pinned:
    """All images in page-locked memory of the host, from where copies to the device need not wait."""

    def __init__(self, source: Source, device: torch.device) -> None:
        self.device, self.where = device, "in pinned memory of the host"
        self.images = torch.empty(len(source), *source.images.shape[1:], dtype=torch.uint8, pin_memory=True)
        _copy(source, self.images)

    def take(self, index: np.ndarray) -> Tensor:
        batch = torch.empty(len(index), *self.images.shape[1:], dtype=torch.uint8, pin_memory=True)
        torch.index_select(self.images, 0, torch.from_numpy(index), out=batch)
        return batch.to(self.device, non_blocking=True)


class Mapped:
    """Images in their memory map, read when they are wanted; the system keeps what it has room for."""

    def __init__(self, source: Source, device: torch.device) -> None:
        self.source, self.device, self.where = source, device, "in a memory map"

    def take(self, index: np.ndarray) -> Tensor:
        return transfer.to(self.device, self.source.read(index))


def _copy(source: Source, images: Tensor) -> None:
    for start in range(0, len(source), PIECE):
        stop = min(start + PIECE, len(source))
        images[start:stop] = torch.from_numpy(source.read(np.arange(start, stop)))


def _host_memory() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
