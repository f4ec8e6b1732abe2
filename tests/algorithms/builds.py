"""Every algorithm of `conf/algo`, built small, found by globbing: a new file is covered by existing."""

from typing import Any

import hydra
import torch
from omegaconf import OmegaConf

from metavision import build, config
from metavision.algorithms.base import Algorithm
from metavision.rules.adam import Adam
from metavision.types import Episode, Examples, Meta

NAMES = sorted(path.stem for path in (config.folder() / "algo").glob("*.yaml"))

CLASSES = 4  # of training
QUIET = {
    "tim": ["algo.steps=20", "algo.rate=0.01"],
    "baseline": ["algo.rate=0.5"],
    "feat": ["algo.drop=0"],  # what drops at random, off
    "deepemd": ["algo.refine=3", "algo.iterations=10"],  # what takes long, short
}


def built(name: str, *overrides: str, way: int = 3, size: int = 16, filters: int = 4) -> Algorithm:
    """The algorithm of a file of `conf/algo` on a small Conv4, with its training settings, and nothing at random."""
    words = [f"algo={name}", f"backbone.filters={filters}", *QUIET.get(name, []), *overrides]
    return build.algorithm(composed(*words), (1, size, size), way, CLASSES)


def smooth(name: str, *overrides: str) -> Algorithm:
    """The same, with an Adam that does not make steps of the rounding of gradients that are 0."""
    algorithm = built(name, *overrides)
    by_adam = isinstance(getattr(algorithm, "rule", None), Adam)
    return built(name, *overrides, "algo.rule.epsilon=0.01") if by_adam else algorithm


def food(algorithm: Algorithm, tasks: Episode) -> Any:
    """What it trains on, made of episodes: these, or all images of each as a batch with training classes as labels."""
    if algorithm.diet == "episodes":
        return tasks
    y = torch.cat([tasks.support.y, tasks.query.y], 1)
    return Examples(torch.cat([tasks.support.x, tasks.query.x], 1), (y + torch.arange(len(y)).unsqueeze(1)) % CLASSES)


def score(algorithm: Algorithm, meta: Meta, task: Any) -> Any:
    """Loss and metrics of one episode, or of one batch."""
    return algorithm.score(meta, task) if algorithm.diet == "episodes" else algorithm.score_batch(meta, task)


def composed(*overrides: str) -> dict[str, Any]:
    """The resolved configuration of `metavision train …`."""
    config.register()
    with hydra.initialize_config_dir(str(config.folder()), version_base="1.3"):
        cfg = hydra.compose("train", list(overrides))
    OmegaConf.resolve(cfg)
    return config.plain(cfg)
