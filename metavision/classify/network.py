"""Where features come from: a backbone with its weights, of a run or of a configuration."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from metavision import build, trees
from metavision.algorithms.base import Algorithm
from metavision.algorithms.pretraining import Pretrained
from metavision.classify.heads.own import Own
from metavision.classify.preparing import Preparing
from metavision.classify.trusting import trusted
from metavision.engine import checkpoint
from metavision.engine.embedding import TOGETHER, TOGETHER_ON_GPU
from metavision.errors import InputError
from metavision.nn import functional
from metavision.nn.folding import folded
from metavision.types import Inputs, Meta, P

KEPT = ("backbone", "algo", "problem", "norm", "scaling", "engine")  # of a configuration, to build the network again


@dataclass(frozen=True, eq=False)
class Network:
    """Images to features, and the algorithm that it was trained by.

    Args:
        algorithm: with its test-time settings.
        meta: weights and statistics, on the CPU.
        preparing: of images.
        config: of backbone and algorithm, from which both can be built without any other file.
        classes: of the training of `algorithm`.
        about: JSON of where the weights come from; `pretrained` is of those of another library.
        statistics: that features are normalised by, where the algorithm was trained with those of whatever it is given.
        device: of the forward passes.
    """

    algorithm: Algorithm
    meta: Meta
    preparing: Preparing
    config: Mapping[str, Any]
    classes: int
    about: Mapping[str, Any]
    statistics: P | None = None
    device: torch.device = torch.device("cpu")  # noqa: RUF009 - a value

    @classmethod
    def of_run(
        cls, run: str | Path, device: torch.device, algo: Mapping[str, Any] | None = None, way: int | None = None
    ) -> Self:
        """That of a run or a checkpoint.

        Args:
            run: a run's folder or a checkpoint.
            device: of the forward passes.
            algo: another algorithm than the run's, of which the backbone alone is taken then.
            way: classes that it is to tell apart.

        Raises:
            InputError: there is no such run, its checkpoint is damaged, or it was trained on no images.
        """
        path = checkpoint.find(Path(run))
        found = checkpoint.read(path)
        preparing = Preparing.of_run(found.about)
        unloaded = build.unloaded(found.about)
        config, classes = {key: unloaded[key] for key in KEPT}, found.about["classes"]
        algorithm = build.algorithm(config, preparing.shape, unloaded["episode"]["way"], classes).for_evaluation()
        checkpoint.fits(algorithm.init(torch.Generator()).params, found.meta.params, path)
        about = {
            "run": checkpoint.name(path),
            "step": found.step,
            "track": found.about["track"],
            "trained_on": len(found.about["trained_on"]),
            "pretrained": found.about.get("pretrained"),
            "chosen": found.about.get("chosen"),
        }
        if algo is None:
            return cls(algorithm, found.meta, preparing, config, classes, about, device=device)
        config |= {"algo": algo}
        other = build.algorithm(config, preparing.shape, way or algorithm.problem.way, classes).for_evaluation()
        fresh = other.init(torch.Generator().manual_seed(0))
        params, buffers = (
            rest | trees.under("backbone", trees.select(kept, "backbone"))
            for rest, kept in zip(fresh, found.meta, strict=True)
        )
        about |= {"chosen": None}
        return cls(other, Meta(params, buffers), preparing, config, classes, about, device=device)

    @classmethod
    def of_backbone(cls, config: Mapping[str, Any], name: str, size: int, device: torch.device, way: int = 2) -> Self:
        """That of `backbone`, by the weights that it comes with; `algo` is what is to adapt it, ProtoNet by default.

        Args:
            config: resolved, with the keys of `KEPT` that it has.
            name: of the backbone, for messages.
            size: of images in pixels, where the backbone does not say.
            device: of the forward passes.
            way: classes that the algorithm is to tell apart.

        Raises:
            InputError: it comes without weights.
        """
        shape = Preparing.of_backbone(None, size).shape
        algorithm = build.algorithm(config, shape, way, way).for_evaluation()
        made = algorithm.backbone
        if next(made.parameters(), None) is not None and made.provenance is None:
            raise InputError(f"backbone={name} comes without trained weights; run= takes it with those of a run")
        blank = torch.zeros(1, *shape)  # stored statistics are the same for any image, which a centre is not
        meta = algorithm.init(torch.Generator().manual_seed(0))
        if made.norm == "stored":
            found = algorithm.calibrate(meta, blank)
            meta = Meta(meta.params, {name: t for name, t in found.buffers.items() if name != "centre"})
        about = {
            "backbone": name,
            "track": "strict" if made.provenance is None else "external",
            "pretrained": made.provenance,
        }
        unloaded = build.unloaded({"config": config, "pretrained": made.provenance})
        kept = {key: unloaded[key] for key in KEPT if key in unloaded}
        return cls(algorithm, meta, Preparing.of_backbone(made, size), kept, way, about, device=device)

    def own(self) -> Own:
        """Its algorithm's head. What that chooses on validation is chosen on every support, if no run has done so.

        Raises:
            InputError: it has none.
        """
        chooses = self.algorithm.choices(self.meta) is not None and self.about.get("chosen") is None
        return Own.of(self.algorithm, self.meta, chooses=chooses).on(self.device)

    def on(self, device: torch.device) -> Self:
        return replace(self, device=device)

    def settled(self, pixels: Tensor) -> Self:
        """With what training would have found, of these images (n, C, H, W).

        Which is the mean that features are centred on, where no training has found one, and statistics, where it was
        trained with those of whatever it is given: an answer must not depend on what else is asked about.
        """
        algorithm, settled = self.algorithm, self
        if isinstance(algorithm, Pretrained) and algorithm.centre and "centre" not in self.meta.buffers:
            found = algorithm.calibrate(self.meta, self.preparing.numbers(pixels)).buffers
            settled = replace(settled, meta=Meta(self.meta.params, {**self.meta.buffers, "centre": found["centre"]}))
        if algorithm.backbone.norm == "batch":
            running = replace(algorithm, backbone=algorithm.backbone.normalised("running"))
            found = running.calibrate(Meta(self.meta.params, {}), self.preparing.numbers(pixels)).buffers
            settled = replace(settled, statistics=trees.select(found, "backbone"))
        return settled

    @cached_property
    def _ready(self) -> tuple[nn.Module, P]:
        """The module and its tensors on the device, with fixed normalisation in the convolutions."""
        blank = torch.zeros(2, *self.preparing.shape)
        params, buffers = (trees.select(part, "backbone") for part in self.meta)
        module: nn.Module = self.algorithm.backbone
        if self.statistics is not None:
            module, buffers = self.algorithm.backbone.normalised("running"), self.statistics
        with torch.no_grad():
            module, params, buffers = folded(module, params, buffers, self.preparing.numbers(blank))
        state = {**params, **buffers}
        place = {name: t.detach().to(self.device) for name, t in {**dict(module.named_buffers()), **state}.items()}
        last = torch.channels_last
        return module, {name: t.contiguous(memory_format=last) if t.ndim == 4 else t for name, t in place.items()}

    def module(self) -> nn.Module:
        """What `features` calls, with its tensors in it: numbers (n, C, H, W) to (n, d), differentiable by them."""
        bare, state = self._ready
        module = copy.deepcopy(bare)
        for name, tensor in state.items():
            parent, _, own = name.rpartition(".")
            place, value = module.get_submodule(parent), tensor.clone(memory_format=torch.contiguous_format)
            setattr(place, own, nn.Parameter(value, requires_grad=False) if own in place._parameters else value)  # noqa: SLF001
        return module.eval()

    def features(self, images: Tensor) -> Tensor:
        """(n, d) of images (n, C, H, W): bytes, or numbers in [0, 1]. On the CPU."""
        module, state = self._ready
        together = TOGETHER if self.device.type == "cpu" else TOGETHER_ON_GPU
        with torch.no_grad():
            parts = [self._numbers(some) for some in images.split(together)]
            return torch.cat([functional.apply(module, state, {}, Inputs(x)).cpu() for x in parts]).float()

    def _numbers(self, images: Tensor) -> Tensor:
        return self.preparing.numbers(images.to(self.device)).contiguous(memory_format=torch.channels_last)

    def as_dict(self) -> dict[str, Any]:
        """JSON, from which `rebuilt` makes it again, with its tensors."""
        return {
            "config": dict(self.config),
            "way": self.algorithm.problem.way,
            "classes": self.classes,
            "preparing": self.preparing.as_dict(),
            "about": dict(self.about),
        }


def rebuilt(about: Mapping[str, Any], meta: Meta, statistics: P | None) -> Network:
    """A network of a classifier's file, on the CPU.

    Raises:
        InputError: it names anything but parts of networks and algorithms.
    """
    config, preparing = about["config"], Preparing.from_dict(about["preparing"])
    trusted(config)
    algorithm = build.algorithm(config, preparing.shape, about["way"], about["classes"]).for_evaluation()
    return Network(algorithm, meta, preparing, config, about["classes"], about["about"], statistics)
