"""A classifier's file: safetensors, with a JSON card in the header. Nothing in it is ever executed or unpickled.

The header holds the format's version, the card, and a SHA-256 of both card and tensors. The sum tells a file that was
damaged or edited; it is no signature of who wrote it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from metavision.drafts import draft_of, reachable
from metavision.engine.checkpoint import digest
from metavision.errors import InputError

VERSION = 1
ENDING = ".classifier"
KEY = "metavision.classifier"  # of the header


def save(path: Path, card: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Writes a file whole or not at all.

    Raises:
        InputError: it can't be written there.
    """
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(card, ensure_ascii=False, sort_keys=True)
    header = {KEY: json.dumps({"version": VERSION, "sha256": digest(text, whole)}), "card": text}
    with draft_of(path) as draft:
        try:
            save_file(whole, draft, metadata=header)
        except SafetensorError as error:
            raise InputError(f"{path} can't be written: {error}") from error


def writable(path: Path) -> None:
    """Raises InputError where `save` would, or would replace what is no classifier, before any work is done."""
    if path.is_dir():
        raise InputError(f"output={path} is a folder; a file is needed, such as {path / f'mine{ENDING}'}")
    if path.exists():
        read(path)
    reachable(path)


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Card and tensors, on the CPU.

    Raises:
        InputError: there is no file, it is no classifier, a newer version wrote it, or it was changed since.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        about = json.loads(header.get(KEY, "null"))
    except FileNotFoundError as error:
        raise InputError(f"there is no classifier {path}") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is no classifier, or damaged: {error}") from error
    if about is None:
        other = ", but a checkpoint of a run; metavision adapt run= makes a classifier of it"
        raise InputError(f"{path} is no classifier{other if 'metavision' in header else ''}")
    if about.get("version") != VERSION:
        raise InputError(
            f"{path} is a classifier of version {about.get('version')}, and this program reads version {VERSION}; "
            "it takes another metavision, or adapt to make it anew"
        )
    text = header.get("card", "")
    if digest(text, tensors) != about.get("sha256"):
        raise InputError(f"{path} was changed or damaged since it was written: its SHA-256 is another")
    return json.loads(text), tensors
