"""One evaluation: the checkpoint as asked, its episodes, what fits and what does not."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from metavision import build, trees
from metavision.algorithms.base import Algorithm
from metavision.console import progress_bar
from metavision.data.batches import Episodes
from metavision.data.episodes import EpisodeSampler
from metavision.data.own import OwnEpisodes, OwnSource
from metavision.data.source import Source
from metavision.data.supports import Supports
from metavision.engine import checkpoint, device, policies
from metavision.engine.checkpoint import Checkpoint
from metavision.engine.embedding import Embedder
from metavision.engine.evaluate import Fit, evaluate
from metavision.engine.testing import Contender, test
from metavision.errors import InputError
from metavision.records.details import class_rows
from metavision.records.run import Run
from metavision.records.statistics import estimate
from metavision.records.tables import table
from metavision.types import CARRIED, Meta

EMBEDDER = Embedder(keep=4)  # so that the evaluations of a sweep embed a split once
ASKED = ("checkpoint", "norm", "steps")  # what makes other answers on the same episodes
SUPPORTED = 200  # tasks that are met with many supports


def evaluated(asked: Mapping[str, Any], path: Path, record: Run) -> dict[str, Any]:
    """Scores a checkpoint as asked.

    Raises:
        InputError: the checkpoint does not fit, or the classes were trained on.
    """
    engine = asked["engine"]
    place = device.resolve(asked["device"])
    device.configure(engine["precision"], deterministic=engine["deterministic"], threads=engine["threads"])
    read = checkpoint.read(path)
    run_config = {**build.unloaded(read.about), "engine": engine}
    run_config["algo"] = policies.with_steps(run_config["algo"], asked["steps"])
    weights, at = (read, path) if asked["checkpoint"] is None else _other(asked["checkpoint"])
    data = build.dataset({"data": run_config["data"] if asked["data"] is None else _alike(asked["data"], read)})
    sizes = {key: asked[key] for key in ("way", "shot", "query", "balance") if asked[key] is not None}
    spec = replace(build.specs(run_config)["test"], **sizes)
    episodes = build.episodes(
        run_config,
        data.source(asked["split"]),
        spec,
        asked["episode_seed"],
        place,
        scaling=build.scaling_of(weights.about),
        replacement=asked["replacement"],
    )
    algorithm = build.algorithm(run_config, data.shape, spec.way, weights.about["classes"]).for_evaluation()
    _outputs_fit(algorithm, weights, at, spec.way, run_config["episode"]["way"])
    _statistics_fit(algorithm, weights, at, episodes.pool(2))
    leak = _leak(weights, data, episodes.source, allowed=asked["allow_leak"])
    trained = Contender(algorithm, checkpoint.to(weights.meta, place))
    fit, n = partial(build.mapper, run_config), min(asked["episodes"], len(episodes))
    if asked["norm"] is not None:
        trained = policies.under(
            asked["norm"],
            trained,
            partial(_training_images, {**weights.about["config"], "engine": engine}, weights, place),
        )
    if n < 2:
        raise InputError(f"{spec} episodes without replacement: the images allow {n}, and an interval needs 2")
    again = None if asked["supports"] is None else _supported(episodes, asked["supports"])
    others = {"inductive": policies.inductive(trained)} if asked["inductive"] else {}
    with progress_bar("evaluating", n * (1 + len(others)), "episodes") as advance:
        result, arrays = test(trained, others, episodes, n, fit, _steps(advance), embedder=EMBEDDER)
    if again is not None:
        result["supports"] = _supports(trained, again, fit, asked["supports"])
    record.write_episodes(arrays)
    if "names" in arrays:
        record.write("classes.csv", table(class_rows(arrays)))
    about = {
        "name": checkpoint.name(path),
        "checkpoint": str(at),
        "step": weights.step,
        "selection": f"{at.stem} checkpoint",
        "train_split_hash": weights.about["split_hash"],
        "leak": leak,
        "track": weights.about["track"],
        "pretrained": weights.about.get("pretrained"),
        "chosen": weights.about.get("chosen"),
        "seed": read.about["config"]["seed"],
        "asked": _asked(asked, path),
    }
    return about | result


def _asked(asked: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What makes other answers on the same episodes; of a run, that is also a checkpoint that was named itself."""
    named = {"checkpoint": path.stem} if Path(asked["run"]).is_file() and Run.of_checkpoint(path) else {}
    return named | {key: asked[key] for key in ASKED if asked[key] is not None}


def _training_images(config: Mapping[str, Any], weights: Checkpoint, place: torch.device) -> torch.Tensor:
    """Of the data that the weights were trained on, to calibrate statistics on."""
    source = build.dataset(config).source("train")
    spec = build.specs(config)["train"]
    tasks = build.episodes(config, source, spec, 0, place, scaling=build.scaling_of(weights.about))
    return tasks.pool(config["engine"]["calibration_images"])


def _supported(episodes: Episodes | OwnEpisodes, each: int) -> Episodes:
    """The first tasks again, with many supports each."""
    if not isinstance(episodes, Episodes) or not isinstance(episodes.sampler, EpisodeSampler):
        raise InputError("supports= needs tasks that are drawn from images, with replacement")
    return Episodes(Supports(episodes.sampler, each), episodes.images)


def _supports(trained: Contender, again: Episodes, fit: Fit, each: int) -> dict[str, Any]:
    """The worst, the mean and the best of a task's supports, over tasks."""
    metric = trained.algorithm.problem.metric
    with progress_bar("other supports", SUPPORTED * each, "episodes") as advance:
        scores = evaluate(
            *(trained.algorithm, trained.meta, again, SUPPORTED * each, fit, partial(_steps(advance), "")),
            embedder=EMBEDDER,
        )
    values = scores.metrics[metric].reshape(SUPPORTED, each)
    worst, best = (values.min(1), values.max(1)) if trained.algorithm.problem.higher else (values.max(1), values.min(1))
    figures = {"worst": worst, "mean": values.mean(1), "best": best, "deviation": values.std(1, ddof=1)}
    estimates = {name: estimate(found, "tasks").as_dict() for name, found in figures.items()}
    return {"each": each, "tasks": SUPPORTED, **estimates}


def _steps(advance: Callable[[int], None]) -> Callable[[str, int], None]:
    """Of counts by contender, what a bar is to be advanced by."""
    done: dict[str, int] = {}

    def told(name: str, count: int) -> None:
        advance(count - done.get(name, 0))
        done[name] = count

    return told


def _alike(data: Mapping[str, Any], trained: Checkpoint) -> dict[str, Any]:
    """Another data set with images as the network was trained on, unless its size and color are given."""
    if len(trained.about["shape"]) != 3:
        raise InputError("this run was trained on no images, so that no other data= can be its test")
    channels, size, _ = trained.about["shape"]
    usual = {"size": size, "color": "rgb" if channels == 3 else "grey"}
    alike = {key: _alike(value, trained) if isinstance(value, Mapping) else value for key, value in data.items()}
    return alike | {key: value for key, value in usual.items() if key in data and data[key] is None}


def _other(place: str) -> tuple[Checkpoint, Path]:
    path = checkpoint.find(Path(place))
    return checkpoint.read(path), path


def _outputs_fit(algorithm: Algorithm, weights: Checkpoint, path: Path, way: int, trained_way: int) -> None:
    """Raises InputError where the weights are another network's, or one with another number of outputs."""
    expected = algorithm.init(torch.Generator()).params
    differ = {
        name
        for name, p in trees.without(expected, CARRIED).items()
        if name not in weights.meta.params or weights.meta.params[name].shape != p.shape
    }
    if way != trained_way and differ and all(name.removeprefix("rule.").startswith("head.") for name in differ):
        raise InputError(
            f"{path} has {trained_way} outputs, one for each class of an episode, so way={way} can't be evaluated"
        )
    checkpoint.fits(expected, weights.meta.params, path)


def _statistics_fit(algorithm: Algorithm, weights: Checkpoint, path: Path, x: torch.Tensor) -> None:
    """Raises InputError where the weights come with other statistics than the run's algorithm takes."""
    needed = algorithm.calibrate(Meta(weights.meta.params, {}), x.cpu()).buffers.keys()
    choices = algorithm.choices(weights.meta)
    free = {name for choice in (choices.options.values() if choices else ()) for name in choice.buffers} - needed
    if differ := (needed ^ weights.meta.buffers.keys()) - free:
        what = "lacks" if min(differ) in needed else "has"
        raise InputError(
            f"{path} {what} {min(differ)}, so it is of another algorithm or normalisation than the run "
            f"(norm={algorithm.backbone.norm})"
        )


def _leak(weights: Checkpoint, data: Any, source: Source | OwnSource, *, allowed: bool) -> int:
    """How many classes were trained on, but for those of ordinary classification, whose test has other images."""
    hashes = source.class_hashes
    if isinstance(source, Source) and source.known:
        own = data.source("train").fingerprint == weights.about["split_hash"] != source.fingerprint
        hashes = source.new_hashes if own else hashes
    seen = len(set(hashes) & set(weights.about["trained_on"]))
    if seen and not allowed:
        raise InputError(
            f"{seen} of the {len(source.classes)} classes were trained on, so the figure would mean nothing; "
            "choose another split, or set allow_leak=true to have it marked"
        )
    return seen
