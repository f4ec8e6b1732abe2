"""From a resolved configuration to objects."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from metavision.algorithms.base import Algorithm
from metavision.config import locate
from metavision.data.batches import PLAIN, Augment, Episodes
from metavision.data.enumeration import Enumeration
from metavision.data.episodes import EpisodeSampler, Sampler
from metavision.data.images import Images
from metavision.data.minibatches import Minibatches
from metavision.data.own import OwnEpisodes, OwnSource
from metavision.data.resident import Resident, resident
from metavision.data.scaling import UNIT, Scaling
from metavision.data.source import DataSet, Source
from metavision.data.spec import EpisodeSpec
from metavision.engine import checkpoint
from metavision.engine.mapping import Mapper, fitted
from metavision.engine.schedules import Schedule
from metavision.errors import InputError
from metavision.tracking.base import Tracker
from metavision.types import Meta

Config = Mapping[str, Any]
Tasks = Episodes | OwnEpisodes | Minibatches


def make(node: Mapping[str, Any], **given: Any) -> Any:
    """The object of a node with a `_target_`: nodes below it are made first, `given` are further arguments.

    Not Hydra's `instantiate`, which turns a dataclass among the given objects into a configuration.
    """
    options = {key: _made(value) for key, value in node.items() if key != "_target_"}
    return locate(node["_target_"])(**options, **given)


def _made(value: Any) -> Any:
    if isinstance(value, Mapping):
        return make(value) if "_target_" in value else {key: _made(inner) for key, inner in value.items()}
    return [_made(inner) for inner in value] if isinstance(value, list) else value


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


def algorithm(config: Config, shape: tuple[int, int, int], way: int, classes: int) -> Algorithm:
    """`algo` on `backbone`.

    Args:
        config: resolved.
        shape: (C, H, W) of the images.
        way: classes of an episode.
        classes: of training, for what is pre-trained on all of them.
    """
    if len(shape) != 3 and getattr(locate(config["backbone"]["_target_"]), "images", True):
        raise InputError(f"this backbone takes images, and the data is of shape {tuple(shape)}; backbone=mlp takes it")
    given: dict[str, Any] = {
        "backbone": make(config["backbone"], shape=shape),
        "problem": make(config["problem"], way=way),
    }
    if pretrained(config):
        given["classes"] = classes
    options = config["algo"]
    if options.get("teacher") is not None:
        path = checkpoint.find(Path(options["teacher"]))
        given["teacher"] = lambda: checkpoint.read(path).meta
        options = {key: value for key, value in options.items() if key != "teacher"}
    learner = make(options, **given)
    if not (given["problem"].chance or learner.regresses):
        raise InputError(f"{type(learner).__name__} tells classes apart; to regress numbers takes algo=maml, say")
    adapter = config["engine"].get("adapter")
    return learner if adapter is None else locate(adapter)(learner)


def pretrained(config: Config) -> bool:
    """Whether the algorithm trains on batches of images, and not on episodes."""
    return getattr(locate(config["algo"]["_target_"]), "diet", "episodes") == "batches"


def specs(config: Config) -> dict[str, EpisodeSpec]:
    """The episodes of train, val and test: training has a composition of its own."""
    episode = {key: value for key, value in config["episode"].items() if key not in ("train", "meta_batch")}
    test = EpisodeSpec(**episode)
    return {"train": EpisodeSpec(**{**episode, **config["episode"]["train"]}), "val": test, "test": test}


def scaling(config: Config, source: Source | OwnSource) -> Scaling:
    """`scaling`: how bytes become numbers, by the images of training."""
    return Scaling.of(source) if config["scaling"] == "standard" and isinstance(source, Source) else UNIT


def scaling_of(about: Mapping[str, Any]) -> Scaling:
    """That of a checkpoint's training."""
    return Scaling(*(tuple(about["scaling"][part]) for part in ("mean", "std"))) if "scaling" in about else UNIT


def augment(config: Config) -> Augment:
    """`augment`."""
    return Augment(**{key: _made(value) for key, value in config["augment"].items()})


def pixels(config: Config, source: Source, device: torch.device) -> Resident:
    """The pixels of a split, on the device if they fit `engine.data_memory`."""
    budget = config["engine"]["data_memory"]
    return resident(source, device, None if budget is None else int(budget * 2**30))


def episodes(
    config: Config,
    source: Source | OwnSource,
    spec: EpisodeSpec,
    seed: int,
    device: torch.device,
    *,
    scaling: Scaling | None = UNIT,
    augment: Augment = PLAIN,
    replacement: bool = True,
) -> Episodes | OwnEpisodes:
    """A stream of episodes of a split, on the device; without replacement, a list of them that ends."""
    if not isinstance(source, Source):
        return OwnEpisodes(source, spec, seed, device)
    sampler: Sampler = (EpisodeSampler if replacement else Enumeration)(source, spec, seed=seed)
    return Episodes(sampler, Images(pixels(config, source, device), scaling), augment)


def minibatches(
    config: Config,
    source: Source | OwnSource,
    seed: int,
    device: torch.device,
    *,
    scaling: Scaling = UNIT,
    augment: Augment = PLAIN,
) -> Minibatches:
    """The batches of pre-training, on the device.

    Raises:
        InputError: the source has tasks, and no classes of its own to be told apart.
    """
    if not isinstance(source, Source):
        raise InputError(f"{source.name} makes tasks, and has no images to pre-train on; an episodic algo= is needed")
    images = Images(pixels(config, source, device), scaling)
    return Minibatches(source, images, config["batch"], seed=seed, augmentation=augment.batch)


def mapper(config: Config, learner: Algorithm, meta: Meta, tasks: Tasks, *, train: bool) -> Mapper:
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
