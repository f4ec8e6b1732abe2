"""Checkpoints: one safetensors file that holds all a run needs to go on, and all a reader needs to use the weights.

Tensors are named `params/…`, `buffers/…` and `optimizer/<parameter>/<state>`; everything else is JSON in the header:
the resolved configuration, the step, the classes that were trained on, and a SHA-256 of all that.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from metavision import trees
from metavision.console import note
from metavision.drafts import draft_of, on_disk
from metavision.errors import InputError
from metavision.records.run import Run
from metavision.types import CARRIED, Meta, P

VERSION, BEFORE = 3, 2  # that which is written, and one that is read, which has no checksum yet
LAST, PREVIOUS = "last.safetensors", "previous.safetensors"
State = dict[str, dict[str, Tensor]]  # of an optimizer: parameter -> name -> tensor


@dataclass(frozen=True)
class Checkpoint:
    """A moment of a run.

    Args:
        meta: parameters and calibrated buffers.
        about: JSON: `config`, `step`, `trained_on`, and what the trainer needs to go on.
        optimizer: its state; empty in a checkpoint that is only read.
    """

    meta: Meta
    about: Mapping[str, Any]
    optimizer: State

    @property
    def step(self) -> int:
        return int(self.about["step"])


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint whole or not at all.

    Raises:
        InputError: it can't be written there.
    """
    named = {
        **{f"params/{name}": t for name, t in checkpoint.meta.params.items()},
        **{f"buffers/{name}": t for name, t in checkpoint.meta.buffers.items()},
        **{f"optimizer/{p}/{name}": t for p, state in checkpoint.optimizer.items() for name, t in state.items()},
    }
    whole = {name: t.detach().cpu().contiguous() for name, t in named.items()}
    about = json.dumps({"version": VERSION, **checkpoint.about})
    with draft_of(path, alone=True) as draft:
        try:
            save_file(whole, draft, metadata={"metavision": about, "sha256": digest(about, whole)})
        except SafetensorError as error:
            raise InputError(f"{path} can't be written: {error}") from error
        on_disk(draft)  # a disk that fails here has cost no older checkpoint yet
        if path.name == LAST:
            _keep(path)


def _keep(path: Path) -> None:
    """Gives the last checkpoint a second name, under which it stays when the next takes the first."""
    previous = path.with_name(PREVIOUS)
    previous.unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        try:
            os.link(path, previous)
        except FileNotFoundError:
            raise
        except OSError:  # a file system without second names
            path.replace(previous)


def read(path: Path) -> Checkpoint:
    """Reads a checkpoint; tensors are on the CPU.

    Raises:
        InputError: there is no file, it is damaged, or another program wrote it.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            text = header.get("metavision", "null")
            about = json.loads(text)
            named = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError as error:
        raise InputError(f"there is no checkpoint {path}") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} can't be read as a checkpoint: {error}") from error
    version = about.get("version") if isinstance(about, dict) else None
    if version not in (VERSION, BEFORE):
        found = "no version" if version is None else f"version {version}"
        raise InputError(f"{path} is not a checkpoint of this program: found {found}, {VERSION} is needed")
    if version == VERSION and header.get("sha256") != digest(text, named):
        raise InputError(f"{path} is damaged: its SHA-256 is not that which was written")
    optimizer: State = {}
    for name, tensor in _under("optimizer/", named).items():
        parameter, state = name.rsplit("/", 1)
        optimizer.setdefault(parameter, {})[state] = tensor
    return Checkpoint(Meta(_under("params/", named), _under("buffers/", named)), about, optimizer)


def latest(run: Run) -> tuple[Path, Checkpoint] | None:
    """The last whole checkpoint of a run, which says so where that is not the last one; None: there is none yet.

    Raises:
        InputError: all are damaged.
    """
    faults: list[str] = []
    for path in (run.checkpoint("last"), run.checkpoint("previous")):
        if path.is_file():
            try:
                found = read(path)
            except InputError as error:
                faults.append(str(error))
                continue
            if faults:
                note(f"{faults[0]}; the one before it is taken, of step {found.step}")
            return path, found
    if faults:
        raise InputError(f"{'; and '.join(faults)}; rerun=true begins anew")
    return None


def find(run: Path) -> Path:
    """The checkpoint meant by a path: a file, or the selected one of a run's folder.

    Raises:
        InputError: neither is there.
    """
    if run.is_file():
        return run
    if not run.is_dir():
        raise InputError(f"there is nothing at {run}; a run's folder or a checkpoint is needed")
    for name in ("best", "last", "previous"):  # a run that selects its last step keeps no best
        if (path := run / "checkpoints" / f"{name}.safetensors").is_file():
            return path
    seeds = sorted(str(path.parent.parent) for path in run.glob("*/checkpoints/last.safetensors"))
    found = f"; runs below it are {', '.join(seeds)}" if seeds else " yet"
    raise InputError(f"{run} holds no checkpoint{found}")


def name(path: Path) -> str:
    """`<algo>-<data>-<id>/seed<k>` of a checkpoint in a run's folder, else the file's name."""
    run = Run.of_checkpoint(path)
    return run.name if run else path.name


def to(meta: Meta, device: torch.device) -> Meta:
    """Parameters and buffers on a device."""
    return Meta(*({name: tensor.to(device) for name, tensor in tree.items()} for tree in meta))


def fits(expected: P, found: P, path: Path) -> None:
    """Raises InputError unless both trees have the same names and shapes."""
    faults = [f"lacks {name}" for name in sorted(expected.keys() - found.keys())]
    faults += [f"has {name}, which the network lacks" for name in sorted(found.keys() - expected.keys())]
    faults += [
        f"has {name} of shape {tuple(found[name].shape)}, where the network has {tuple(p.shape)}"
        for name, p in expected.items()
        if name in found and found[name].shape != p.shape
    ]
    if faults:
        more = f", and {len(faults) - 1} more differences" if len(faults) > 1 else ""
        raise InputError(f"{path} is a checkpoint of another architecture: it {faults[0]}{more}")


def transferred(fresh: P, found: P, path: Path) -> P:
    """Fresh weights, in place of which stand those of a checkpoint that fit; its backbone must.

    What is carried belongs together, so that all of it fits, or none is taken.

    Raises:
        InputError: the backbone is of another architecture.
    """
    fits(trees.select(fresh, "backbone"), trees.select(found, "backbone"), path)
    fitting = {name: p for name, p in found.items() if name in fresh and fresh[name].shape == p.shape}
    whole = trees.select(fitting, CARRIED).keys() == trees.select(fresh, CARRIED).keys()
    return fresh | (fitting if whole else trees.without(fitting, CARRIED))


def digest(about: str, tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of a text and of tensors on the CPU, by name. It tells damage; it is no signature."""
    found = hashlib.sha256(about.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        found.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _under(prefix: str, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in named.items() if name.startswith(prefix)}
