"""Files of weights as other libraries write them: found, fetched, read and fitted."""

import hashlib
import os
import pickle
import re
import urllib.request
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from metavision.data.download import Archive, fetched
from metavision.errors import InputError

REACHED = 5.0  # seconds for a hub to answer, before it counts as out of reach
HASHED = re.compile(r"-([0-9a-f]{8,})$")  # names in torch's hub: the beginning of the SHA-256
WRAPPERS = ("state_dict", "model")  # under which training scripts put a state dict


def local(place: str) -> Path:
    """The file at a path: itself, or `model.safetensors` or `pytorch_model.bin` of a folder.

    Raises:
        InputError: it is not there.
    """
    path = Path(place).expanduser()
    if path.is_dir():
        names = ("model.safetensors", "pytorch_model.bin")
        if (found := next((path / name for name in names if (path / name).is_file()), None)) is None:
            raise InputError(f"the folder backbone.weights={place} has neither {' nor '.join(names)}")
        return found
    if not path.is_file():
        raise InputError(f"backbone.weights is {place}; it must be default, none, or the path of a file or folder")
    return path


def from_hub(address: str, folder: Path) -> Path:
    """A file in a folder, where it is fetched to; where its name ends in a hash, it must be its own.

    Raises:
        InputError: it is not there and can't be fetched, or is damaged.
    """
    name = address.rpartition("/")[2]
    advice = f"put it at {folder / name}, or anywhere and say backbone.weights=PATH"
    if offline():
        advice = f"HF_HUB_OFFLINE is set; get {address}, {advice}"
    path = fetched(f"the file {name}", Archive(name, address, None), folder, advice=advice, download=not offline())
    beginning = HASHED.search(path.stem)
    if beginning and not (found := sha256(path)).startswith(beginning[1]):
        raise InputError(f"{path} is damaged: its SHA-256 begins {found[:8]}, not {beginning[1]}; remove it")
    return path


def from_model_hub(repository: str, names: Iterable[str]) -> Path:
    """The first of some files of a model hub's repository that is in the hub's cache, where it is fetched to.

    Raises:
        InputError: none is there or can be fetched.
    """
    import huggingface_hub as hub
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    names = tuple(names)
    for name in names:
        if isinstance(found := hub.try_to_load_from_cache(repository, name), str):
            return Path(found)
    address = hub.hf_hub_url(repository, names[0])
    reason: object = "HF_HUB_OFFLINE is set"
    if not offline():
        reason = _unreachable(address)
        for name in names if reason is None else ():
            try:
                return Path(hub.hf_hub_download(repository, name))
            except EntryNotFoundError as error:
                reason = error
            except (HfHubHTTPError, OSError) as error:
                reason = error
                break
    raise InputError(
        f"{names[0]} of {repository} is not in {hub.constants.HF_HUB_CACHE} and can't be fetched ({_line(reason)}); "
        f"get {address} and say backbone.weights=PATH, or carry that cache along"
    )


def offline() -> bool:
    """Whether the user forbids to ask a hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _unreachable(address: str) -> object | None:
    """Why an address can't be reached, known in seconds: the hub's own client tries for half a minute."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=REACHED):  # noqa: S310 - https
            return None
    except OSError as error:
        # An answer, if a refusal, too, is for the client to understand.
        return getattr(error, "reason", error) if type(error) is URLError or not isinstance(error, URLError) else None


def _line(reason: object) -> str:
    return next(iter(str(reason).strip().splitlines()), "no answer")


def read(path: Path) -> dict[str, Any]:
    """A state dict, on the CPU; nothing in the file is executed.

    Raises:
        InputError: there is none in it.
    """
    try:
        if path.suffix == ".safetensors":
            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise InputError(f"{path} can't be read as weights: {_line(error)}") from error
    while isinstance(found, dict) and (inner := next((w for w in WRAPPERS if isinstance(found.get(w), dict)), None)):
        found = found[inner]
    if not (isinstance(found, dict) and found and all(isinstance(t, torch.Tensor) for t in found.values())):
        raise InputError(f"{path} holds no state dict, which is a dict of names to tensors")
    return found


def fit(network: nn.Module, state: dict[str, Any], head: Iterable[str], path: Path, name: str) -> None:
    """Puts a state dict into a network; what is in it of a head is left out.

    Args:
        network: without the head; overwritten.
        state: overwritten, too.
        head: names of modules.
        path: of the file, for messages.
        name: of the network, for messages.

    Raises:
        InputError: names or shapes differ.
    """
    for key in [key for key in state if key.startswith(tuple(f"{part}." for part in head))]:
        del state[key]  # in place, since the versions of layers are an attribute of it
    try:
        missing, unexpected = network.load_state_dict(state, strict=False)
    except RuntimeError as error:  # of shapes
        faults = [line.strip().rstrip(".") for line in str(error).splitlines()[1:]]
    else:
        faults = [f"it lacks {key}" for key in missing]
        faults += [f"it has {key}, which the network lacks" for key in unexpected]
    if faults:
        more = f", and {len(faults) - 1} more differences" if len(faults) > 1 else ""
        raise InputError(f"{path} does not fit {name}: {faults[0]}{more}")


def sha256(path: Path) -> str:
    """Of a file, in hexadecimal."""
    about = path.stat()
    return _sha256(path, about.st_mtime_ns, about.st_size)


@cache
def _sha256(path: Path, changed: int, size: int) -> str:  # noqa: ARG001 - what tells that a file is the same
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
