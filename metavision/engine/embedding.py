"""A split embedded once: where adaptation leaves the backbone alone, episodes are algebra on features."""

import hashlib
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from metavision import trees
from metavision.algorithms.base import Algorithm
from metavision.backbones.base import Backbone
from metavision.data.batches import Episodes
from metavision.data.images import Features
from metavision.engine import ranks
from metavision.nn import functional
from metavision.nn.folding import folded
from metavision.types import Inputs, Meta

TOGETHER = 64  # images on a CPU: measured on Conv4 at 32 pixels, above it activations leave the cache
TOGETHER_ON_GPU = 1024
MEMORY = 2**31  # bytes of features; all splits of the catalogue but tiered-ImageNet's maps take less


class Embedded(Backbone):
    """Stands where a backbone was: what it is given are features already."""

    images = False

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.features, self.map, self.norm = backbone.features, backbone.map, backbone.norm
        self.train(backbone.training)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: ARG002
        return x


def embeddable(algorithm: Algorithm) -> bool:
    """Whether a feature is a function of its image alone."""
    return algorithm.frozen and algorithm.backbone.norm not in ("batch", "support", "each")


def fits(algorithm: Algorithm, episodes: Episodes) -> bool:
    """Whether the features of a split are few enough to be held."""
    return len(episodes.source) * algorithm.backbone.features * 4 <= MEMORY


class Embedder:
    """Embeds splits.

    Args:
        keep: how many splits' features are kept, if they are few enough, for when the same weights are evaluated again,
            as in a sweep.
    """

    def __init__(self, keep: int = 0) -> None:
        self.keep = keep
        self._kept: OrderedDict[str, Tensor] = OrderedDict()

    def __call__(
        self, algorithm: Algorithm, meta: Meta, episodes: Episodes, *, autocast: bool = False
    ) -> tuple[Algorithm, Meta, Episodes]:
        """The same algorithm and episodes, on features: the scores are the same but for rounding.

        Args:
            algorithm: an `embeddable` one, with its test-time settings.
            meta: calibrated.
            episodes: without augmentation.
            autocast: embed under bfloat16 autocast.
        """
        key = _key(algorithm, meta, episodes, autocast=autocast)
        features = self._kept.pop(key, None)
        if features is None:
            features = _features(algorithm, meta, episodes, autocast=autocast)
        if self.keep:
            self._kept[key] = features
            while len(self._kept) > self.keep or sum(kept.nbytes for kept in self._kept.values()) > MEMORY:
                self._kept.popitem(last=False)
        rest = (
            {name: t for name, t in part.items() if not name.startswith("backbone.")}
            for part in (meta.params, meta.buffers)
        )
        on_features = replace(algorithm, backbone=Embedded(algorithm.backbone))
        return on_features, Meta(*rest), Episodes(episodes.sampler, Features(features))


def _features(algorithm: Algorithm, meta: Meta, episodes: Episodes, *, autocast: bool) -> Tensor:
    """Features (N, d) of the whole split, by channels-last convolutions that have the normalisation in them."""
    size, device = len(episodes.source), episodes.device
    together = TOGETHER if device.type == "cpu" else TOGETHER_ON_GPU
    with torch.no_grad():
        some = episodes.images.take(np.arange(min(2, size)))
        params, buffers = (trees.select(part, "backbone") for part in meta)
        backbone, params, buffers = folded(algorithm.backbone, params, buffers, some)
        params, buffers = ({name: _channels_last(t) for name, t in part.items()} for part in (params, buffers))
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=autocast):

        def embedded(x: Tensor) -> Tensor:
            return functional.apply(backbone, params, buffers, Inputs(_channels_last(x)))

        features = embedded(some).new_zeros(size, algorithm.backbone.features)
        for start in ranks.dealt(range(0, size, together)):
            at = slice(start, min(start + together, size))
            features[at] = embedded(episodes.images.take(np.arange(size)[at]))
    ranks.total(
        features.view(torch.uint8)
    )  # of bytes that one process has and the others have zeros for: the same bits
    return features


def _channels_last(t: Tensor) -> Tensor:
    return t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t


SETTING = (int, float, str, tuple)  # of a layer: what is not made of tensors or of other layers


def _key(algorithm: Algorithm, meta: Meta, episodes: Episodes, *, autocast: bool) -> str:
    """Tells apart all that decides the features."""
    images, source, backbone = episodes.images, episodes.source, algorithm.backbone
    structure = [(type(m), [(k, v) for k, v in vars(m).items() if isinstance(v, SETTING)]) for m in backbone.modules()]
    precision = (autocast, torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)
    about = (structure, source.fingerprint, source.split, images.scaling, images.device, precision)
    digest = hashlib.blake2b(str(about).encode())
    for part in meta:
        for name, t in sorted(trees.select(part, "backbone").items()):
            digest.update(name.encode() + t.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
