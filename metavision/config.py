"""The shape of a configuration: schemas, checks before anything runs, and building of objects.

Hydra composes `conf/` and checks types against the schemas here. Whatever is a node with `_target_` is then bound to
the signature of its target, so that a wrong option is found before any work, and all wrong ones together.
"""

import errno
import inspect
import math
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from enum import Enum
from importlib import import_module
from pathlib import Path
from traceback import walk_tb
from types import NoneType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import MISSING, DictConfig, OmegaConf

from metavision.errors import InputError, first_line, no_option


class Strategy(Enum):
    auto = "auto"
    loop = "loop"
    vmap = "vmap"
    graph = "graph"


class Precision(Enum):
    fp32 = "fp32"
    tf32 = "tf32"
    bf16 = "bf16"


class OnNan(Enum):
    stop = "stop"
    skip = "skip"
    rollback = "rollback"


class Device(Enum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Scaling(Enum):
    unit = "unit"
    standard = "standard"


class Sizes(Enum):
    fixed = "fixed"
    uniform = "uniform"
    meta_dataset = "meta_dataset"


class Hierarchy(Enum):
    any = "any"
    within = "within"
    across = "across"


class EvaluationNorm(Enum):
    batch = "batch"
    running = "running"
    support = "support"
    each = "each"


class Selection(Enum):
    best = "best"
    last = "last"


@dataclass
class TrainEpisode:
    way: int = MISSING
    shot: int = MISSING
    query: int = MISSING
    sizes: Sizes = MISSING
    way_min: int = MISSING
    shot_min: int = MISSING
    balance: float | None = MISSING
    unlabelled: int = MISSING
    distractors: int = MISSING
    hierarchy: Hierarchy = MISSING


@dataclass
class Episode:
    way: int = 5
    shot: int = 1
    query: int = 15
    sizes: Sizes = Sizes.fixed
    way_min: int = 2
    shot_min: int = 1
    balance: float | None = None
    unlabelled: int = 0
    distractors: int = 0
    hierarchy: Hierarchy = Hierarchy.any
    train: TrainEpisode = field(default_factory=TrainEpisode)
    meta_batch: int = 1


@dataclass
class Budget:
    name: str = MISSING
    steps: int = MISSING
    validate_every: int = MISSING
    validation_episodes: int = MISSING
    test_episodes: int = MISSING
    checkpoint_every: int = MISSING
    log_every: int = MISSING
    patience: int | None = None
    cooldown: float | None = None


@dataclass
class Engine:
    mapping: Strategy = Strategy.auto
    chunk: int | None = None
    memory: float | None = None
    channels_last: bool | None = None
    explicit: bool | None = None
    recompute: bool | None = None
    data_memory: float | None = None
    precision: Precision = Precision.fp32
    prefetch: bool | None = None
    deterministic: bool = False
    on_nan: OnNan = OnNan.stop
    threads: int | None = None
    devices: int = 1
    calibration_images: int = 512
    adapter: str | None = None


@dataclass
class Paper:
    """The published figure that an experiment is after, as its source prints it.

    Args:
        accuracy: in %.
        half_width: what stands behind its plus-minus, whose meaning differs between papers; null: nothing does.
        source: Title (Authors, Year) of where it is printed.
        link: to that.
        verified: whether it was read in print; false: it is said from memory, so nothing may rest on it.
        note: what a reader of the figure should know besides.
        tried: what was tried, where our figure misses it.
    """

    accuracy: float = MISSING
    half_width: float | None = None
    source: str = MISSING
    link: str = MISSING
    verified: bool = True
    note: str = ""
    tried: str = ""


@dataclass
class Train:
    """`conf/train.yaml`."""

    algo: dict[str, Any] = MISSING
    backbone: dict[str, Any] = MISSING
    data: dict[str, Any] = MISSING
    problem: dict[str, Any] = MISSING
    optimizer: dict[str, Any] = MISSING
    schedule: dict[str, Any] = MISSING
    logger: dict[str, Any] = MISSING
    episode: Episode = field(default_factory=Episode)
    budget: Budget = field(default_factory=Budget)
    lengths: dict[str, int] = field(default_factory=dict)
    engine: Engine = field(default_factory=Engine)
    augment: dict[str, Any] = field(default_factory=dict)
    scaling: Scaling = Scaling.unit
    norm: str = MISSING
    batch: int = 64
    clip: float | None = None
    selection: Selection = Selection.best
    references: list[str] = field(default_factory=list)
    seed: int = 0
    device: Device = Device.auto
    init: str | None = None
    paper: Paper | None = None
    outputs: str = MISSING
    rerun: bool = False
    wait: bool = False


@dataclass
class Evaluate:
    """`conf/evaluate.yaml`."""

    run: str = MISSING
    checkpoint: str | None = None
    data: dict[str, Any] | None = None
    split: str = "test"
    way: int | None = None
    shot: int | None = None
    query: int | None = None
    balance: float | None = None
    episodes: int = 2000
    episode_seed: int = 0
    replacement: bool = True
    norm: EvaluationNorm | None = None
    inductive: bool = False
    steps: int | None = None
    supports: int | None = None
    rerun: bool = False
    allow_leak: bool = False
    engine: Engine = field(default_factory=Engine)
    device: Device = Device.auto


@dataclass
class Adapt:
    """`conf/adapt.yaml`. Below `device` is what files of `algo` and `backbone` may set."""

    support: str | None = None
    run: str | None = None
    backbone: dict[str, Any] | None = None
    algo: dict[str, Any] | None = None
    head: str = "auto"
    output: str | None = None
    classifier: str | None = None
    add: Any = None
    remove: Any = None
    unknown: float = 0.05
    folds: int | None = None
    size: int = 84
    device: Device = Device.auto
    problem: dict[str, Any] = MISSING
    optimizer: dict[str, Any] = MISSING
    schedule: dict[str, Any] = MISSING
    engine: Engine = field(default_factory=Engine)
    episode: dict[str, Any] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    augment: dict[str, Any] = field(default_factory=dict)
    norm: str = MISSING


def register() -> None:
    """Makes the schemas known to Hydra, at the root, where they do not show up as choices of a group."""
    OmegaConf.register_new_resolver("choices", choices, replace=True)
    OmegaConf.register_new_resolver("short", short, replace=True)
    store = ConfigStore.instance()
    store.store(name="train_schema", node=Train)
    store.store(name="evaluate_schema", node=Evaluate)
    store.store(name="adapt_schema", node=Adapt)


def short(there: Any, elsewhere: Any, *, _root_: DictConfig) -> Any:
    """`${short:8,32}`: 8 at the short budget, 32 at every other."""
    return there if _root_.budget.name == "short" else elsewhere


HIDDEN_GROUPS = ("verb", "protocol")  # chosen by other choices, not by the user
MOST_SHOWN = 40  # files of a folder


def choices(*groups: str) -> str:
    """What `--help` says of the files of folders, a user's own among them: their names, or of very many some."""
    loader = GlobalHydra.instance().config_loader()
    shown = groups or [group for group in loader.list_groups("") if group not in (*HIDDEN_GROUPS, "hydra")]
    lines = []
    for group in shown:
        names = loader.get_group_options(group)
        some = names if len(names) <= MOST_SHOWN else [*names[:: len(names) // 5][:5], f"… {len(names)} of them"]
        lines.append(f"{group}: {', '.join(some)}")
    return "\n".join(lines)


def composed(name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """A resolved configuration of `conf/<name>.yaml`, for use in Python; Hydra is left as it was.

    Raises:
        InputError: the overrides don't fit.
    """
    import hydra

    register()
    try:
        with hydra.initialize_config_dir(str(folder()), version_base="1.3"):
            return plain(hydra.compose(name, list(overrides)))
    except Exception as error:
        if not of_composition(error):
            raise
        raise InputError(first_line(error)) from error


COMPOSERS = ("hydra", "omegaconf", "antlr4", "yaml")  # packages


def of_composition(error: BaseException) -> bool:
    """Whether words could not be composed: Hydra has errors for that, and assertions and slips where it has none."""
    if type(error).__module__.partition(".")[0] in COMPOSERS:
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENAMETOOLONG  # of a word that is looked for as a file
    frames = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
    return bool(frames) and frames[-1].partition(".")[0] in COMPOSERS


def folder() -> Path:
    """Where the YAML files are: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    return next(conf for conf in (package / "conf", package.parent / "conf") if conf.is_dir())


def plain(cfg: DictConfig) -> dict[str, Any]:
    """A resolved configuration as plain dicts, enums by name.

    Raises:
        InputError: a value is missing, or what it refers to.
    """
    try:
        missing = OmegaConf.missing_keys(cfg)
        container = {} if missing else OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    except Exception as error:
        if not of_composition(error):
            raise
        where = getattr(error, "full_key", None)
        raise InputError(f"{where}: {first_line(error)}" if where else first_line(error)) from error
    schema = OmegaConf.get_type(cfg)
    missing |= set(_lacking(schema, container, "")) if not missing else set()
    if missing:
        raise InputError(f"a value is needed for {', '.join(sorted(missing))}")
    assert isinstance(container, dict)
    if beyond := list(_beyond(schema, container, "")):
        raise InputError("; and ".join(beyond))
    return {str(key): value for key, value in container.items()}


def _lacking(schema: Any, node: Any, path: str) -> Iterator[str]:
    """Keys of a schema that were deleted, or set to something that has no keys."""
    if not is_dataclass(schema):
        return
    for name, hint in get_type_hints(schema).items():
        here = f"{path}.{name}" if path else name
        within = _keyed(hint)
        none = within is not hint  # whether the node may be null
        if name not in node or (within and not isinstance(node[name], dict | (NoneType if none else dict))):
            yield here
        elif isinstance(node[name], dict):
            yield from _lacking(within, node[name], here)


def _beyond(schema: Any, node: Any, path: str) -> Iterator[str]:
    """What to say of keys that a schema lacks, as `+` may have added; those at the top are a user's own affair."""
    if not (is_dataclass(schema) and isinstance(node, dict)):
        return
    hints = get_type_hints(schema)
    for key, value in node.items():
        if key in hints:
            yield from _beyond(_keyed(hints[key]), value, f"{path}.{key}" if path else key)
        elif path:
            yield no_option(path, key, hints)


def _keyed(hint: Any) -> Any:
    """The dataclass of an annotation that is one, or may be null besides."""
    return next((kind for kind in (hint, *get_args(hint)) if is_dataclass(kind)), None)


# The least that makes sense, by path.
_LEAST = {
    "budget.steps": 0,
    "budget.validate_every": 1,
    "budget.validation_episodes": 2,
    "budget.test_episodes": 2,
    "budget.checkpoint_every": 1,
    "budget.log_every": 1,
    "budget.patience": 1,
    "episode.meta_batch": 1,
    "batch": 1,
    "engine.chunk": 1,
    "engine.threads": 1,
    "engine.devices": 1,
    "engine.calibration_images": 2,
    "episodes": 2,
    "steps": 0,
    "supports": 2,
    "folds": 0,
}


# What must be above 0, by path, where it is set.
_POSITIVE = ("clip", "engine.memory", "engine.data_memory")


def _too_small(config: Mapping[str, Any]) -> Iterator[str]:
    for path, least in _LEAST.items():
        value: Any = config
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, int) and value < least:
            yield f"{path} is {value}; it must be at least {least}"
    for path in _POSITIVE:
        node, _, key = path.rpartition(".")
        value = (config.get(node, {}) if node else config).get(key)
        if value is not None and not 0 < value < math.inf:
            yield f"{path} is {value}; it must be above 0{'' if value < math.inf else ', and a number'}"


# What cannot change a result has no part in a run's identity.
_BESIDE_THE_RESULT = {
    "": ("seed", "device", "outputs", "rerun", "wait", "logger", "lengths", "references", "paper"),
    "engine": (
        *("mapping", "chunk", "memory", "channels_last", "explicit", "recompute"),
        *("data_memory", "prefetch", "threads", "devices", "on_nan"),
    ),
    "budget": ("name", "log_every", "checkpoint_every"),
}


_PLACES = ("root", "download")  # of a data set, and of those that it is made of


def _without(node: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """A node, and those below it, without some keys."""
    return {
        key: _without(value, keys) if isinstance(value, Mapping) else value
        for key, value in node.items()
        if key not in keys
    }


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a resolved configuration that decides the result, for runs that differ by seed at most."""
    kept = {key: value for key, value in config.items() if key not in _BESIDE_THE_RESULT[""]}
    kept["data"] = _without(kept["data"], _PLACES)
    for node, keys in _BESIDE_THE_RESULT.items():
        if node:
            kept[node] = {key: value for key, value in kept[node].items() if key not in keys}
    return kept


def beside(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a resolved evaluation that decides its result."""
    kept = {key: value for key, value in asked.items() if key not in ("device", "rerun")}
    return {**kept, "engine": _without(kept["engine"], _BESIDE_THE_RESULT["engine"])}


def check(config: Mapping[str, Any]) -> None:
    """Binds every node with a `_target_` to the signature of its target, and looks for numbers that make no sense.

    Raises:
        InputError: one message with all unknown options and wrong types.
    """
    faults = [fault for path, node in _targets(config, "") for fault in _faults(path, node)]
    faults += _too_small(config)
    faults += _unknown_adapter(config)
    if "augment" in config:
        faults += _wrong_augment(config["augment"])
    if faults:
        raise InputError("; and ".join(faults))


def _unknown_adapter(config: Mapping[str, Any]) -> Iterator[str]:
    if (path := config.get("engine", {}).get("adapter")) is not None:
        try:
            locate(path)
        except Exception as error:  # whatever importing the user's module raises
            yield f"engine.adapter is {path}, which can't be imported: {error}"


def _wrong_augment(node: Mapping[str, Any]) -> Iterator[str]:
    from metavision.data.batches import Augment

    hints = get_type_hints(Augment)
    for key, value in node.items():
        if key not in hints:
            yield no_option("augment", key, hints)
        elif not admits(hints[key], value):
            yield f"augment.{key} is {value!r}, of type {type(value).__name__}; it must be {describe(hints[key])}"


def locate(path: str) -> Any:
    """The class or function at `package.module.Name`."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def _targets(node: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield path, node
        for key, value in node.items():
            yield from _targets(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for place, value in enumerate(node):
            yield from _targets(value, f"{path}[{place}]")


# What `build` gives to whatever it makes.
GIVEN = ("shape", "backbone", "problem", "classes", "way", "params")


def _faults(path: str, node: Mapping[str, Any]) -> Iterator[str]:
    try:
        target = locate(node["_target_"])
    except Exception as error:  # whatever importing the user's module raises
        yield f"{path}._target_ is {node['_target_']}, which can't be imported: {error}"
        return
    if not callable(target):
        yield f"{path}._target_ is {node['_target_']}, which is a {type(target).__name__}, and makes nothing"
        return
    try:
        parameters = inspect.signature(target).parameters
    except ValueError:  # of classes that are not written in Python
        return
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    hints = _hints(target)
    for key, value in node.items():
        if key.startswith("_"):
            continue
        if key not in parameters:
            yield no_option(path, key, parameters)
        elif not admits(hints.get(key, Any), value):
            yield f"{path}.{key} is {value!r}, of type {type(value).__name__}; it must be {describe(hints[key])}"
    lacking = [p.name for p in parameters.values() if p.default is p.empty and p.name not in {*node, *GIVEN}]
    if lacking:
        yield f"{path} lacks {', '.join(lacking)}, which {node['_target_']} needs"


def _hints(target: Any) -> dict[str, Any]:
    try:
        return get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError):  # foreign annotations may name what only type checkers import
        return {}


_LISTS = (Sequence, list, tuple)


def admits(hint: Any, value: Any) -> bool:
    """Whether a plain value fits an annotation; those of other libraries' objects are not judged."""
    origin = get_origin(hint)
    if origin is Literal:
        return value in get_args(hint)
    if origin in (Union, types.UnionType):
        return any(admits(option, value) for option in get_args(hint))
    if origin in _LISTS:
        return isinstance(value, list) and all(admits(get_args(hint)[0], item) for item in value)
    if hint in (int, float):
        return isinstance(value, int | float if hint is float else int) and not isinstance(value, bool)
    if isinstance(hint, type) and hint.__module__.startswith("metavision."):
        return isinstance(value, Mapping)  # of which it is made
    plain = hint in (str, bool, type(None)) or origin is Mapping
    return not plain or isinstance(value, origin or hint)


def describe(hint: Any) -> str:
    """An annotation in a user's words."""
    if get_origin(hint) is Literal:
        return " or ".join(str(option) for option in get_args(hint))
    if inspect.isclass(hint) and issubclass(hint, Enum):
        return " or ".join(option.name for option in hint)
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(describe(option) for option in get_args(hint))
    if get_origin(hint) in _LISTS:
        return "a list"
    return {type(None): "null", float: "a number", int: "a whole number", str: "text"}.get(
        hint, getattr(hint, "__name__", str(hint))
    )
