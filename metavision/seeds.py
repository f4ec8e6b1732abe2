"""The only source of randomness: seeds hashed from names, so that no two uses ever collide."""

from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # help must not wait for torch
    import torch


def seed(*names: str | int) -> int:
    """A 63-bit seed for a use, named by its parts: `seed("eval", "test", 0)`.

    Names are hashed with their types and lengths, never added or multiplied, so `("a", 12)`, `("a1", 2)`
    and `("a", "12")` are three different seeds.
    """
    text = "\x1f".join(f"{type(name).__name__}:{len(str(name))}:{name}" for name in names)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(*names: str | int) -> "torch.Generator":
    """A CPU generator seeded by `seed(*names)`; draws are moved to the device, so that devices agree."""
    import torch

    return torch.Generator().manual_seed(seed(*names))
