"""metavision in Python."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from metavision import build, config
from metavision.algorithms.base import Algorithm
from metavision.classify import making
from metavision.classify.classifier import Classifier
from metavision.classify.estimator import FewShotClassifier
from metavision.data.scaling import Scaling
from metavision.engine import checkpoint
from metavision.types import Meta

__all__ = ["Classifier", "FewShotClassifier", "Loaded", "adapt", "load"]


class Loaded(NamedTuple):
    """What a run learned, on the CPU."""

    algorithm: Algorithm  # with its test-time settings
    meta: Meta
    scaling: Scaling  # makes of bytes (n, C, H, W) what the network was trained on


def load(run: str | Path) -> Loaded:
    """The algorithm and the learned weights of a run.

    Args:
        run: a run's folder (its selected checkpoint) or a checkpoint.

    Raises:
        InputError: there is no such run, or its checkpoint is damaged or does not fit its configuration.

    >>> algorithm, meta, scaling = metavision.load("outputs/protonet-glyphs-1a2b3c4d/seed0")  # doctest: +SKIP
    >>> task = algorithm.adapt(meta, Examples(scaling(images), labels))  # doctest: +SKIP
    >>> logits = algorithm.predict(meta, task, Inputs(scaling(others)))  # doctest: +SKIP
    """
    path = checkpoint.find(Path(run))
    found = checkpoint.read(path)
    settings = build.unloaded(found.about)
    about = found.about
    algorithm = build.algorithm(settings, about["shape"], settings["episode"]["way"], about["classes"])
    algorithm = algorithm.for_evaluation()
    checkpoint.fits(algorithm.init(torch.Generator()).params, found.meta.params, path)
    return Loaded(algorithm, found.meta, build.scaling_of(found.about))


def adapt(
    support: str | Path,
    *,
    run: str | Path | None = None,
    backbone: str | None = None,
    head: str = "auto",
    unknown: float = 0.05,
    device: str = "auto",
    overrides: Sequence[str] = (),
) -> Classifier:
    """A classifier of a user's labelled images; `Classifier.card` has the estimate of its accuracy.

    Args:
        support: a folder of a folder of images for each class, an archive of such, or a CSV (file, class).
        run: a run's folder or a checkpoint, whose network and preprocessing are taken.
        backbone: in its place a file of `conf/backbone` that comes with weights.
        head: auto, own, prototypes, ridge or logistic.
        unknown: of images like the support, the share that `metavision predict` may call unknown.
        device: auto, cpu, cuda.
        overrides: further keys of `conf/adapt.yaml`, such as `algo=finetune`.

    Raises:
        InputError: anything of it does not fit.

    >>> classifier = metavision.adapt("photos/flowers", run="outputs/protonet-cifarfs-1a2b3c4d/seed0")  # doctest: +SKIP
    >>> classifier.predict(["new.jpg"])  # doctest: +SKIP
    array(['daisy'], dtype='<U5')
    >>> classifier.save("flowers.classifier")  # doctest: +SKIP
    """
    words = [*([] if backbone is None else [f"backbone={backbone}"]), *overrides]
    asked = config.composed("adapt", words) | {
        "support": str(support),
        "run": None if run is None else str(run),
        "head": head,
        "unknown": unknown,
        "device": device,
        "backbone_name": backbone,
    }
    config.check(asked)
    return making.made(asked)
