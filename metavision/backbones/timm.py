"""timm's networks."""

import importlib
import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from metavision.backbones import weights as files
from metavision.backbones.preprocessing import Preprocessing
from metavision.backbones.pretrained import Headless, Pretrained
from metavision.errors import InputError, suggestion

OURS = ("num_classes", "in_chans", "img_size")  # arguments of a network that are not those of the file


class Timm(Pretrained):
    """A network of timm, without its classifier: what timm gives for `num_classes=0`.

    Args:
        shape: (C, H, W) of the images.
        name: as timm has it, such as `vit_small_patch14_dinov2.lvd142m`; None: that of the folder of `weights`.
        weights: `default`: those of the name; `none`: drawn; or the path of a file (.safetensors, .pth, .pt) or of a
            folder as timm saves for a hub, `model.safetensors` beside `config.json`.
        size: side in pixels that images are brought to; None: the network's own. Places of a transformer are
            interpolated, as timm does.
        crop: share of the resized side that is kept; None: the network's own.
        recorded: the `provenance` in a checkpoint, so that it is built alike without the file.
    """

    def __init__(
        self,
        shape: Sequence[int],
        name: str | None = None,
        weights: str = "default",
        size: int | None = None,
        crop: float | None = None,
        recorded: Mapping[str, Any] | None = None,
    ) -> None:
        timm, card = library(), _card(weights)
        name = _named(timm, name, card) if recorded is None else _named(timm, recorded["name"], {})
        try:
            known = timm.get_pretrained_cfg(name, allow_unregistered=True)
        except RuntimeError as error:  # the part of the name that tells weights apart
            raise InputError(f"timm: {error}") from error
        about = ({} if known is None else known.to_dict()) | card.get("pretrained_cfg", {})
        path = None if weights == "none" else _path(name, weights, about)
        if recorded is not None:
            preprocessing, options = Preprocessing.of(recorded["preprocessing"]), recorded["options"]
        else:
            preprocessing = _preprocessing(timm, about, size, crop)
            options = {key: value for key, value in card.get("model_args", {}).items() if key not in OURS}
            if about.get("fixed_input_size") or "img_size" in card.get("model_args", {}):
                options |= {"img_size": preprocessing.size}
        head = about.get("classifier") or ()
        heads = (head,) if isinstance(head, str) else tuple(head)
        super().__init__(shape, partial(_headless, name, heads, options), preprocessing)
        if path is not None:
            state = _translated(files.read(path), self.network, path, name)
            files.fit(self.network, state, self.head, path, f"timm's {name}")
            self.provenance = _provenance(timm, name, about, path) | {"options": options} | self.facts()


def library() -> Any:
    """timm.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise InputError(f"timm is not installed ({error}); pip install timm huggingface-hub") from error


def _card(weights: str) -> Mapping[str, Any]:
    """What the folder of the weights says of them."""
    path = Path(weights).expanduser() / "config.json"
    if not path.is_file():
        return {}
    try:
        card = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read as JSON: {error}") from error
    if not (isinstance(card, dict) and isinstance(card.get("architecture"), str)):
        raise InputError(f"{path} does not say `architecture`, as timm's do; other libraries' layouts are not read")
    return card


def _named(timm: Any, name: str | None, card: Mapping[str, Any]) -> str:
    there = card.get("architecture")
    if name is None and there is None:
        raise InputError("backbone.name is needed, such as vit_tiny_patch16_224; timm.list_models() has them all")
    chosen = str(name or there)
    if not timm.is_model(chosen):
        raise InputError(f"timm has no network {chosen}{suggestion(chosen.partition('.')[0], timm.list_models())}")
    if there is not None and chosen.partition(".")[0] != there:
        raise InputError(f"backbone.name is {chosen}, and the folder backbone.weights has a {there}")
    return chosen


def _preprocessing(timm: Any, about: Mapping[str, Any], size: int | None, crop: float | None) -> Preprocessing:
    own = timm.data.resolve_data_config(pretrained_cfg=about)
    return Preprocessing(
        *(size or own["input_size"][-1], tuple(own["mean"]), tuple(own["std"]), own["interpolation"]),
        own["crop_pct"] if crop is None else crop,
        own["crop_mode"] == "squash",
    )


def _path(name: str, weights: str, about: Mapping[str, Any]) -> Path:
    if weights != "default":
        return files.local(weights)
    if repository := about.get("hf_hub_id"):
        named = about.get("hf_hub_filename")
        return files.from_model_hub(repository, (named,) if named else ("model.safetensors", "pytorch_model.bin"))
    if address := about.get("url"):
        return files.from_hub(address, Path(torch.hub.get_dir()) / "checkpoints")
    raise InputError(f"timm has no weights for {name}; say backbone.weights=PATH, or none")


def _headless(name: str, head: tuple[str, ...], options: Mapping[str, Any]) -> Headless:
    try:
        network = library().create_model(name, pretrained=False, num_classes=0, **options)
    except (TypeError, AssertionError, RuntimeError) as error:
        raise InputError(f"timm's {name} can't be made with {dict(options)}: {error}") from error
    return Headless(network, int(getattr(network, "head_hidden_size", None) or network.num_features), head)


def _translated(state: dict[str, Any], network: Any, path: Path, name: str) -> dict[str, Any]:
    """The state dict in the names and shapes of today's timm, which knows those of the authors' files."""
    filter_ = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    try:
        return state if filter_ is None else filter_(state, network)
    except (KeyError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} does not fit timm's {name}: {type(error).__name__}: {error}") from error


def _provenance(timm: Any, name: str, about: Mapping[str, Any], path: Path) -> dict[str, Any]:
    return {
        "library": "timm",
        "version": timm.__version__,
        "name": name,
        "model": name.partition(".")[0],
        "weights": about.get("tag") or None,
        "licence": about.get("license"),
        "trained_on": about.get("tag") or None,  # which names the images, and all that timm says of them
        "address": about.get("hf_hub_id") or about.get("url") or None,
        "file": path.name,
        "sha256": files.sha256(path),
    }
