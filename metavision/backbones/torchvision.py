"""torchvision's networks."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision import models

from metavision.backbones import weights as files
from metavision.backbones.preprocessing import Preprocessing
from metavision.backbones.pretrained import Headless, Pretrained
from metavision.errors import InputError, suggestion


class Torchvision(Pretrained):
    """A classification network of torchvision, without its last linear layer.

    Args:
        shape: (C, H, W) of the images.
        name: as torchvision has it, such as `resnet50`.
        weights: `default`: those that torchvision recommends; the name of others of its own, such as
            `IMAGENET1K_V1`; `none`: drawn; or the path of a file (.pth, .pt, .safetensors) or a folder with one.
        size: side in pixels that images are brought to; None: the network's own.
        crop: share of the resized side that is kept; None: the network's own.
        recorded: the `provenance` in a checkpoint, so that it is built alike without the file.
    """

    def __init__(
        self,
        shape: Sequence[int],
        name: str,
        weights: str = "default",
        size: int | None = None,
        crop: float | None = None,
        recorded: Mapping[str, Any] | None = None,
    ) -> None:
        if name not in (known := models.list_models(module=models)):
            raise InputError(f"torchvision has no network {name}{suggestion(name, known)}")
        known = models.get_model_weights(name)
        chosen, path = _chosen(known, weights)
        own = (chosen or known.DEFAULT).transforms()
        preprocessing = Preprocessing(
            *(size or own.crop_size[0], tuple(own.mean), tuple(own.std), own.interpolation.value),
            own.crop_size[0] / own.resize_size[0] if crop is None else crop,
        )
        if recorded is not None:
            preprocessing = Preprocessing.of(recorded["preprocessing"])
        super().__init__(shape, partial(_headless, name), preprocessing)
        if (side := getattr(self.network, "image_size", preprocessing.size)) != preprocessing.size:
            raise InputError(f"torchvision's {name} takes images of {side} pixels alone, not {preprocessing.size}")
        if path is not None:
            files.fit(self.network, files.read(path), self.head, path, f"torchvision's {name}")
            self.provenance = _provenance(name, chosen, path) | self.facts()


def _chosen(known: Any, weights: str) -> tuple[Any, Path | None]:
    """Which of the library's weights these are, if any of them, and their file."""
    if weights == "none":
        return None, None
    chosen = known.DEFAULT if weights == "default" else known.__members__.get(weights)
    if chosen is not None:
        return chosen, files.from_hub(chosen.url, Path(torch.hub.get_dir()) / "checkpoints")
    path = files.local(weights)
    return next((one for one in known if one.url.endswith(f"/{path.name}")), None), path


def _headless(name: str) -> Headless:
    network = models.get_model(name, weights=None)
    last = [place for place, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    if not last:
        raise InputError(f"torchvision's {name} has no linear classifier, so it is not known what its features are")
    parent, _, child = last[-1].rpartition(".")
    features = network.get_submodule(last[-1]).in_features
    setattr(network.get_submodule(parent), child, nn.Identity())
    return Headless(network, int(features), (last[-1],))


def _provenance(name: str, chosen: Any, path: Path) -> dict[str, Any]:
    meta = {} if chosen is None else chosen.meta
    classes = f", {len(meta['categories'])} classes" if "categories" in meta else ""
    return {
        "library": "torchvision",
        "version": torchvision.__version__,
        "model": name,
        "weights": None if chosen is None else chosen.name,
        "licence": meta.get("license"),
        "trained_on": None if chosen is None else chosen.name.partition("_V")[0] + classes,
        "address": None if chosen is None else chosen.url,
        "file": path.name,
        "sha256": files.sha256(path),
    }
