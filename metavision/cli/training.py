"""The course of one run: build, train, test, record."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from metavision import build
from metavision.algorithms.base import Algorithm
from metavision.algorithms.protonet import ProtoNet
from metavision.backbones.pixels import Pixels
from metavision.cli import ancestry, results
from metavision.cli.recorder import Recorder
from metavision.console import note
from metavision.data.guard import disjoint
from metavision.data.own import OwnEpisodes
from metavision.data.source import DataSet
from metavision.engine import checkpoint, device, ranks, threads
from metavision.engine.checkpoint import Checkpoint
from metavision.engine.choosing import chosen
from metavision.engine.sharing import Share
from metavision.engine.testing import Contender, test
from metavision.engine.train import Plan, train
from metavision.errors import InputError, suggestion
from metavision.records.provenance import provenance
from metavision.records.run import Onlooker, Run
from metavision.records.selection import RULES
from metavision.seeds import generator, seed
from metavision.tracking.none import Nothing
from metavision.types import Meta

EPISODE_SEED = 0  # of validation and test: the same episodes whatever the run's seed, so that runs can be paired
REFERENCES = ("untrained", "pixels")


def run_to_the_end(config: Mapping[str, Any], overrides: Sequence[str], run: Run) -> dict[str, Any]:
    """Trains from where the run stands, tests, writes DONE last, and returns the result.

    Raises:
        InputError: the configuration can't be built on the data at hand.
        Diverged: the loss is not finite.
    """
    if unknown := set(config["references"]) - set(REFERENCES):
        raise InputError(f"there is no reference {min(unknown)}{suggestion(min(unknown), REFERENCES)}")
    engine, run = config["engine"], run if ranks.first() else Onlooker(run.folder)
    place = device.resolve(config["device"])
    # A run goes on as it was begun, with the same bits, even where another measurement would choose otherwise.
    goes_on = ranks.from_first(lambda: any(run.folder.glob("checkpoints/*.safetensors"))) and not config["rerun"]
    begun = ranks.from_first(lambda: run.read("provenance.json")) if goes_on else {}
    if lines := ancestry.changed(config, begun.get("began_from", {})):
        raise InputError("; and ".join(lines))
    number = engine["threads"] or _threads(begun)
    device.configure(engine["precision"], deterministic=engine["deterministic"], threads=number)
    data = build.dataset(config)
    plan = plan_of(config, data, place, begun.get("execution", {}))
    if number is None and place.type == "cpu":
        torch.set_num_threads(threads.chosen(plan))
    execution = build.execution(config, plan.train_mapper, place)
    origin = provenance() | {
        "device": device.name(place),
        "threads": torch.get_num_threads(),
        "processes": ranks.count(),
        "execution": execution,
        "pretrained": plan.about["pretrained"],
        "began_from": begun.get("began_from", {}) if begun else ancestry.began_from(config),
    }
    if config["rerun"]:  # only now that nothing is wrong with what replaces it
        run.clear()
    run.write("config.yaml", config)
    run.write("overrides.txt", "\n".join(overrides) + "\n")
    run.write("provenance.json", origin)
    recorder = Recorder(
        run,
        build.tracker(config) if ranks.first() else Nothing(),
        plan.steps,
        plan.tester.problem.metric,
        partial(device.peak_memory, place),
    )
    result: dict[str, Any] = {}
    note(f"run: {run.folder}")
    note(_in_words(plan, place))
    try:
        recorder.open(config, origin)
        trained = train(plan, run, recorder)
        selected = chosen(plan, trained, ranks.from_first(lambda: checkpoint.find(run.folder)))
        result = _tested(config, data, plan, selected, run, recorder)
        run.write("result.json", result)
        run.finish()
    finally:
        recorder.close(result, checkpoint.find(run.folder) if result and ranks.first() else None)
    results.show(result, run.folder)
    return result


def plan_of(
    config: Mapping[str, Any], data: DataSet, place: torch.device, begun: Mapping[str, Any] | None = None
) -> Plan:
    """The training plan of a configuration, on a device; `begun`: see `build.train_mapper`."""
    specs, augment, budget = build.specs(config), build.augment(config), config["budget"]
    optimizer, schedule = build.optimizer(config), build.schedule(config)  # before data is prepared, which takes time
    sources = {split: data.source(split) for split in ("train", "val", "test")}
    disjoint(sources)
    scaling = build.scaling(config, sources["train"])
    key = seed("train", config["seed"])
    tasks: build.Tasks
    if build.pretrained(config):
        tasks = build.minibatches(config, sources["train"], key, place, scaling=scaling, augment=augment)
    else:
        tasks = build.episodes(config, sources["train"], specs["train"], key, place, scaling=scaling, augment=augment)
    validation = build.episodes(config, sources["val"], specs["val"], EPISODE_SEED, place, scaling=scaling)
    classes = len(sources["train"].classes)
    learner = build.algorithm(config, data.shape, specs["train"].way, classes)
    tester = build.algorithm(config, data.shape, specs["test"].way, classes).for_evaluation()
    if learner.problem.chance is None and "pixels" in config["references"]:
        raise InputError("the reference pixels tells images apart; take it out: references=[untrained]")
    ancestors = ancestry.ancestors(config, sources)
    inherited = {name for about in ancestors for name in about["trained_on"]}
    own, pretrained = set(tasks.source.class_hashes), _pretrained(learner, ancestors)
    share, meta = Share(tasks, config["episode"]["meta_batch"]), _start(config, learner, place)
    if not meta.params and budget["steps"]:
        raise InputError("this algorithm on this backbone has nothing to learn; budget.steps=0 tests it as it is")
    _same_outputs(config, meta, tester)
    mapper = build.train_mapper(config, learner, meta, tasks, begun or {})
    return Plan(
        algorithm=learner,
        tester=tester,
        meta=meta,
        optimizer=optimizer,
        schedule=schedule,
        train=tasks,
        validation=validation,
        # What waits for other processes is not mapped.
        train_mapper=replace(mapper, strategy="loop") if share.of_images else mapper,
        fit=partial(build.mapper, config),
        prefetch=_prefetch(config, tasks),
        meta_batch=share.meta_batch,
        steps=budget["steps"],
        validate_every=budget["validate_every"],
        checkpoint_every=budget["checkpoint_every"],
        log_every=budget["log_every"],
        validation_episodes=budget["validation_episodes"],
        patience=budget["patience"],
        keep_best=config["selection"] == "best",
        clip=config["clip"],
        on_nan=config["engine"]["on_nan"],
        calibration_images=config["engine"]["calibration_images"],
        seed=config["seed"],
        about={
            "config": dict(config),
            "shape": list(data.shape),
            "split_hash": tasks.source.fingerprint,
            "validation_split_hash": validation.source.fingerprint,
            "trained_on": sorted({*tasks.source.class_hashes, *inherited}),
            "classes": classes,
            "track": "external" if inherited - own or pretrained else "strict",
            "pretrained": pretrained,
            "scaling": {"mean": list(scaling.mean), "std": list(scaling.std)},
        },
    )


def _pretrained(learner: Algorithm, ancestors: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Of the weights of another library that this run, or one that it starts or learns from, began with."""
    found = [learner.backbone.provenance, *(about.get("pretrained") for about in ancestors)]
    return next((about for about in found if about is not None), None)


def _threads(begun: Mapping[str, Any]) -> int | None:
    """By which a run was begun, if these are here: the order in which they sum is seen in the last bits."""
    number = begun.get("threads")
    return number if number is None or number <= threads.available() else None


def _prefetch(config: Mapping[str, Any], tasks: build.Tasks) -> bool:
    """Whether the next batch is made in a thread: never those of other libraries, which draw from global generators."""
    wanted = config["engine"]["prefetch"]
    # On a CPU sampling and gathering are a thousandth of a step, a fiftieth where images are augmented.
    return not isinstance(tasks, OwnEpisodes) and (tasks.device.type == "cuda" if wanted is None else wanted)


def _start(config: Mapping[str, Any], learner: Algorithm, place: torch.device) -> Meta:
    """What training starts from: a draw by the run's seed, or the weights of `init`."""
    meta = learner.init(generator("init", config["seed"]))
    if config["init"] is not None:
        path = checkpoint.find(Path(config["init"]))
        meta = Meta(checkpoint.transferred(meta.params, checkpoint.read(path).meta.params, path), {})
    return checkpoint.to(meta, place)


def _same_outputs(config: Mapping[str, Any], meta: Meta, tester: Algorithm) -> None:
    shapes = {name: p.shape for name, p in tester.init(torch.Generator()).params.items()}
    if shapes != {name: p.shape for name, p in meta.params.items()}:
        raise InputError(
            f"episode.train.way is {config['episode']['train']['way']} and episode.way is {config['episode']['way']}; "
            f"{type(tester).__name__} has an output for each class, so they must be equal"
        )


def _tested(
    config: Mapping[str, Any], data: DataSet, plan: Plan, selected: Checkpoint, run: Run, recorder: Recorder
) -> dict[str, Any]:
    """The result of a run. Only here is test data opened."""
    n = config["budget"]["test_episodes"]
    place, scaling = plan.train.device, build.scaling_of(plan.about)
    spec = build.specs(config)["test"]
    episodes = build.episodes(config, data.source("test"), spec, EPISODE_SEED, place, scaling=scaling)
    trained = Contender(plan.tester, checkpoint.to(selected.meta, place))
    references = {name: _reference(name, plan, data) for name in config["references"]}
    result, arrays = test(trained, references, episodes, n, plan.fit, lambda name, done: recorder.tested(name, done, n))
    run.write_episodes(arrays)
    about = {
        "name": run.name,
        "seed": config["seed"],
        "step": selected.step,
        "selection": RULES[config["selection"]].format(metric=plan.tester.problem.metric),
        "train_split_hash": plan.about["split_hash"],
        "track": plan.about["track"],
        "pretrained": plan.about["pretrained"],
        "init": config["init"],
        "chosen": selected.about.get("chosen"),
    }
    return about | result


def _reference(name: str, plan: Plan, data: DataSet) -> Contender:
    """What the trained network is held against: itself before training, or nearest centroid on pixels."""
    if name == "untrained":
        meta = plan.tester.calibrate(plan.meta, plan.train.pool(plan.calibration_images))
        return Contender(plan.tester, meta)
    problem = plan.tester.problem
    return Contender(ProtoNet(backbone=Pixels(data.shape), problem=problem), Meta({}, {}))


def _in_words(plan: Plan, place: torch.device) -> str:
    engine = f"engine: {device.name(place)}, {torch.get_num_threads()} threads, {plan.train_mapper}"
    data = ", ".join(f"{tasks.source.split} {tasks.where}" for tasks in (plan.train, plan.validation))
    lines = [engine, f"data: {plan.train.source.name}, {data}"]
    if ranks.count() > 1:
        what = "the images of a step" if plan.share.of_images else "the tasks of a step"
        lines.append(f"processes: {ranks.count()}, which share {what}{_idle(plan)}")
    return "\n".join(lines)


def _idle(plan: Plan) -> str:
    if not (idle := plan.share.idle):
        return ""
    return f"; {idle} without work but in evaluations, since episode.meta_batch is {plan.meta_batch}"
