"""From a resolved configuration to objects."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from metavision.algorithms.base import Algorithm
from metavision.config import locate
from metavision.data.batches import Episodes
from metavision.data.episodes import EpisodeSampler, EpisodeSpec
from metavision.data.source import DataSet
from metavision.engine.mapping import Mapper, fitted
from metavision.engine.schedules import Schedule
from metavision.errors import InputError
from metavision.problems.classification import Classification
from metavision.tracking.base import Tracker
from metavision.types import Meta

Config = Mapping[str, Any]


def make(node: Mapping[str, Any], **given: Any) -> Any:
    """The object of a node with a `_target_`: nodes below it are made first, `given` are further arguments.

    Not Hydra's `instantiate`, which turns a dataclass among the given objects into a configuration.
    """
    options = {
        key: make(value) if isinstance(value, Mapping) and "_target_" in value else value
        for key, value in node.items()
        if key != "_target_"
    }
    return locate(node["_target_"])(**options, **given)


def dataset(config: Config) -> DataSet:
    """`data`."""
    return make(config["data"])


def tracker(config: Config) -> Tracker:
    """`logger`."""
    return make(config["logger"])


def schedule(config: Config) -> Schedule:
    """`schedule`."""
    return make(config["schedule"])


def optimizer(config: Config) -> Callable[[list[torch.Tensor]], torch.optim.Optimizer]:
    """`optimizer`, still without its tensors.

    Raises:
        InputError: the optimizer itself refuses its options.
    """
    options = dict(config["optimizer"])
    make_optimizer = partial(locate(options.pop("_target_")), **options)
    try:
        make_optimizer([torch.zeros(1)])
    except (TypeError, ValueError) as error:
        raise InputError(f"optimizer: {error}") from error
    return make_optimizer


def algorithm(config: Config, shape: tuple[int, int, int], way: int) -> Algorithm:
    """`algo` on `backbone`, for images of a shape (C, H, W) and episodes of `way` classes."""
    backbone = make(config["backbone"], shape=shape)
    return make(config["algo"], backbone=backbone, problem=Classification(way))


def specs(config: Config) -> dict[str, EpisodeSpec]:
    """The episodes of train, val and test: training has a composition of its own."""
    episode = config["episode"]
    test = EpisodeSpec(episode["way"], episode["shot"], episode["query"])
    return {"train": EpisodeSpec(**episode["train"]), "val": test, "test": test}


def episodes(data: DataSet, split: str, spec: EpisodeSpec, seed: int, device: torch.device) -> Episodes:
    """A stream of episodes of a split, on the device."""
    return Episodes(EpisodeSampler(data.source(split), spec, seed=seed), device)


def mapper(config: Config, learner: Algorithm, meta: Meta, tasks: Episodes, *, train: bool) -> Mapper:
    """How `engine` maps the tasks of a training step, or of an evaluation."""
    engine = config["engine"]
    return fitted(
        learner,
        meta,
        tasks.batch([0]),
        strategy=engine["mapping"],
        chunk=engine["chunk"],
        memory=engine["memory"],
        autocast=engine["precision"] == "bf16",
        train=train,
    )
