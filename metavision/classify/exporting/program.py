"""A classifier as a graph of torch.export, for any number of images."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.export import Dim, ExportedProgram, export

from metavision.classify.whole import Whole
from metavision.errors import InputError, first_line

TRACED = 3  # images; 1 would be taken for a constant


def program(whole: Whole, dtype: torch.dtype) -> ExportedProgram:
    """Images (n, C, H, W) to probabilities (n, k).

    Args:
        whole: the classifier, on the CPU.
        dtype: of images: uint8, or float32 in [0, 1].

    Raises:
        InputError: what it does can't be written as a graph, or only for a fixed n.
    """
    images = torch.zeros(TRACED, *whole.preparing.shape, dtype=dtype)
    try:
        with torch.no_grad(), quiet():
            return export(whole, (images,), dynamic_shapes=({0: Dim("n")},))
    except Exception as error:  # torch's own kinds are many
        raise InputError(f"{name(whole)} can't be exported: {type(error).__name__}: {first_line(error)}") from error


def name(whole: Whole) -> str:
    """What is exported, for messages."""
    made: nn.Module = whole.backbone
    return "this algorithm" if isinstance(made, nn.Identity) else type(made).__name__


@contextmanager
def quiet() -> Iterator[None]:
    """Without two warnings of torch 2.11 about its own code."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)", FutureWarning)
        warnings.filterwarnings("ignore", "The given buffer is not writable", UserWarning)
        yield
