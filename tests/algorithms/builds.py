"""Every algorithm of `conf/algo`, built small, found by globbing: a new file is covered by existing."""

from typing import Any

import hydra
from omegaconf import OmegaConf

from metavision import build, config
from metavision.algorithms.base import Algorithm

NAMES = sorted(path.stem for path in (config.folder() / "algo").glob("*.yaml"))

QUIET = {
    "feat": ["algo.drop=0"],  # what drops at random, off
    "deepemd": ["algo.refine=3", "algo.iterations=10"],  # what takes long, short
}


def built(name: str, *overrides: str, way: int = 3, size: int = 16, filters: int = 4) -> Algorithm:
    """The algorithm of a file of `conf/algo` on a small Conv4, with its training settings, and nothing at random."""
    words = [f"algo={name}", f"backbone.filters={filters}", *QUIET.get(name, []), *overrides]
    return build.algorithm(composed(*words), (1, size, size), way)


def composed(*overrides: str) -> dict[str, Any]:
    """The resolved configuration of `metavision train …`."""
    config.register()
    with hydra.initialize_config_dir(str(config.folder()), version_base="1.3"):
        cfg = hydra.compose("train", list(overrides))
    OmegaConf.resolve(cfg)
    return config.plain(cfg)
