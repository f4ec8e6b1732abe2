"""From a resolved configuration to objects."""

import inspect
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from metavision import trees
from metavision.algorithms.base import Algorithm
from metavision.backbones.base import Backbone
from metavision.config import locate
from metavision.console import note
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
from metavision.engine import checkpoint, ranks
from metavision.engine import device as devices
from metavision.engine.evaluate import TASKS_AT_ONCE
from metavision.engine.fitting import Wanted, candidates, fitted
from metavision.engine.mapping import Mapper
from metavision.engine.optimizing import spare_the_compiler
from metavision.engine.schedules import Cooldown, Schedule
from metavision.engine.tuning import REPAYS, tuned
from metavision.errors import InputError
from metavision.records.provenance import code
from metavision.tracking.base import Tracker
from metavision.types import Meta

Config = Mapping[str, Any]
T = TypeVar("T")
Tasks = Episodes | OwnEpisodes | Minibatches

MOST_TIMED = 8  # tasks on a CPU, where time grows with their number


def make(node: Mapping[str, Any], **given: Any) -> Any:
    """The object of a node with a `_target_`: nodes below it are made first, `given` are further arguments.

    Not Hydra's `instantiate`, which turns a dataclass among the given objects into a configuration.

    Raises:
        InputError: the target takes other arguments.
    """
    options = {key: _made(value) for key, value in node.items() if key != "_target_"}
    target = locate(node["_target_"])
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):  # of what is not written in Python
        return target(**options, **given)
    try:
        signature.bind(**options, **given)
    except TypeError as error:
        raise InputError(f"{node['_target_']} can't be made here: {error}") from error
    return target(**options, **given)


def _as(made: T, needed: Sequence[str], what: str, target: str) -> T:
    """What was made, if it is of use as `what`; a user's own file may name anything."""
    # Without asking for it, since an attribute may be what is downloaded first.
    if lacking := [name for name in needed if inspect.getattr_static(made, name, None) is None]:
        raise InputError(f"{what}._target_ is {target}, which has no {', '.join(lacking)}, so it is no {what}")
    return made


def _part(config: Config, key: str, needed: Sequence[str], **given: Any) -> Any:
    """What a group makes, if it is of use as such."""
    return _as(make(config[key], **given), needed, key, config[key]["_target_"])


def _made(value: Any) -> Any:
    if isinstance(value, Mapping):
        return make(value) if "_target_" in value else {key: _made(inner) for key, inner in value.items()}
    return [_made(inner) for inner in value] if isinstance(value, list) else value


def dataset(config: Config) -> DataSet:
    """`data`."""
    made: DataSet = _part(config, "data", ("source", "shape"))
    return made


def tracker(config: Config) -> Tracker:
    """`logger`."""
    made: Tracker = _part(config, "logger", ("start", "log", "finish"))
    return made


def schedule(config: Config) -> Schedule:
    """`schedule`, with `budget.cooldown`."""
    made: Schedule = _part(config, "schedule", ("__call__",))
    share = config["budget"]["cooldown"]
    return made if share is None else Cooldown(made, share)


def optimizer(config: Config) -> Callable[[list[torch.Tensor]], torch.optim.Optimizer]:
    """`optimizer`, still without its tensors.

    Raises:
        InputError: the optimizer itself refuses its options.
    """
    spare_the_compiler()
    options = dict(config["optimizer"])
    make_optimizer = partial(locate(options.pop("_target_")), **options)
    try:
        _as(make_optimizer([torch.zeros(1)]), ("param_groups",), "optimizer", config["optimizer"]["_target_"])
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
    given: dict[str, Any] = {
        "backbone": backbone(config, shape),
        "problem": _part(config, "problem", ("loss", "metrics"), way=way),
    }
    if pretrained(config):
        given["classes"] = classes
    options = config["algo"]
    if options.get("teacher") is not None:
        path = Path(str(options["teacher"]))  # read when it is first asked, which a test does not do
        given["teacher"] = lambda: checkpoint.read(checkpoint.find(path)).meta
        options = {key: value for key, value in options.items() if key != "teacher"}
    if options.get("augment") is not None and config.get("scaling") == "standard":
        raise InputError("algo.augment is of images in [0, 1]; leave out scaling=standard, or set algo.augment=null")
    learner = _as(make(options, **given), ("meta_grad", "for_evaluation"), "algo", options["_target_"])
    if not (given["problem"].chance or learner.regresses):
        raise InputError(f"{type(learner).__name__} tells classes apart; to regress numbers takes algo=maml, say")
    adapter = config["engine"].get("adapter")
    return learner if adapter is None else locate(adapter)(learner)


def backbone(config: Config, shape: tuple[int, int, int]) -> Backbone:
    """`backbone`, for images of a shape (C, H, W).

    Raises:
        InputError: the network itself refuses its options.
    """
    if len(shape) != 3 and getattr(locate(config["backbone"]["_target_"]), "images", True):
        raise InputError(f"this backbone takes images, and the data is of shape {tuple(shape)}; backbone=mlp takes it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of layers without a number, which are refused below
            made: Backbone = _part(config, "backbone", ("features", "named_parameters", "norm"), shape=shape)
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        raise InputError(f"backbone: {error}") from error
    if made.features < 1:
        raise InputError(f"backbone: {made.features} features are none to learn by")
    if made.preprocessing is not None and config.get("scaling") == "standard":
        raise InputError("a pre-trained network standardises images by its own figures; leave out scaling=standard")
    return made


def unloaded(about: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a checkpoint, which holds all weights: neither a file of pre-trained ones nor a teacher is
    needed to build it.

    Args:
        about: of the checkpoint, or of another whole set of weights: `config` and `pretrained`.
    """
    config = dict(about["config"])
    if "teacher" in config["algo"]:
        config["algo"] = {**config["algo"], "teacher": None}
    if config["backbone"].get("weights", "none") == "none":
        return config
    return {**config, "backbone": {**config["backbone"], "weights": "none", "recorded": about["pretrained"]}}


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
    return resident(source, device, None if budget is None else budget * 2**30)


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
        if spec.varied or not replacement or augment != PLAIN or config["scaling"] == "standard":
            raise InputError(
                f"{source.name} makes its tasks itself, of fixed sizes and with replacement; leave out episode.sizes, "
                "balance, unlabelled, hierarchy, augment, scaling and replacement"
            )
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
    if augment.mix is not None or augment.turn_classes:
        raise InputError("augment.mix and augment.turn_classes are of episodes; pre-training takes augment.batch")
    images = Images(pixels(config, source, device), scaling)
    return Minibatches(source, images, config["batch"], seed=seed, augmentation=augment.batch)


def _varied(tasks: Tasks) -> bool:
    """Whether the shapes of batches differ, each padded to its own largest episode."""
    return isinstance(tasks, Episodes) and tasks.spec.padded


def _sample(tasks: Tasks) -> Any:
    """A batch of one task, padded as in a batch of many, where sizes vary."""
    return trees.index(tasks.batch(range(TASKS_AT_ONCE)), slice(0, 1)) if _varied(tasks) else tasks.batch([0])


def wanted(config: Config) -> Wanted:
    """What `engine` asks of a mapper."""
    engine = config["engine"]
    options = {field.name: engine[field.name] for field in fields(Wanted) if field.name != "autocast"}
    return Wanted(**options, autocast=engine["precision"] == "bf16")


def mapper(config: Config, learner: Algorithm, meta: Meta, tasks: Tasks) -> Mapper:
    """How the tasks of an evaluation are mapped."""
    return fitted(learner, meta, _sample(tasks), wanted(config), train=False)


def train_mapper(config: Config, learner: Algorithm, meta: Meta, tasks: Tasks, begun: Config) -> Mapper:
    """How the tasks of a training step are mapped: as the run was begun with, else by what is measured to be the
    fastest where the run is long enough to repay it, else by rule.

    Args:
        config: resolved.
        learner: with its training settings.
        meta: what training starts from.
        tasks: of training.
        begun: the `execution` of the run that is gone on with; empty for a new one. It is left where another is asked
            for by now, or the device is another.
    """
    asked, sample, many = wanted(config), _sample(tasks), config["episode"]["meta_batch"]
    if (kept := _continued(begun, asked, tasks.device)) is not None:
        return kept
    varied = _varied(tasks)
    if asked.mapping != "auto" or config["budget"]["steps"] < REPAYS or not meta.params:
        return fitted(learner, meta, sample, asked, train=True, varied=varied)
    share = math.ceil(many / ranks.count())  # of the first process, which measures
    timed = min(share, MOST_TIMED) if tasks.device.type == "cpu" else share
    some = tasks.batch(range(timed))

    def step(by: Mapper) -> None:
        by.meta_grad(learner.at(0.0), meta, some)
        devices.wait(tasks.device)

    setup = {
        "device": devices.model(tasks.device),
        "torch": torch.__version__,
        "code": code(),
        "threads": torch.get_num_threads(),
        "tasks": timed,
        "shapes": [list(tensor.shape) for tensor in trees.tensors(sample)],
        **{key: config[key] for key in ("engine", "algo", "backbone", "problem", "episode", "batch")},
    }
    return tuned(setup, lambda: candidates(learner, meta, sample, asked, varied=varied), step)


def _continued(begun: Config, asked: Wanted, place: torch.device) -> Mapper | None:
    """What a run was begun with, where the same is asked for by now, and on such a device."""
    now = asdict(asked)
    if not begun or begun["device"] != devices.name(place) or any(now.get(k) != v for k, v in begun["asked"].items()):
        return None
    try:
        return Mapper(**begun["mapper"])
    except TypeError:
        note("engine: an older version began this run in a way that there is no more; its bits may change from here on")
        return None


def execution(config: Config, chosen: Mapper, place: torch.device) -> dict[str, Any]:
    """JSON of how a run is carried out, and of what was asked for when that was chosen."""
    asked = asdict(wanted(config))
    return {"mapper": asdict(chosen), "words": str(chosen), "asked": asked, "device": devices.name(place)}
