"""Runs that a run starts from or learns from: what they were trained on is handed down."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from metavision import trees
from metavision.data.own import OwnSource
from metavision.data.source import Source
from metavision.engine import checkpoint
from metavision.errors import InputError


def ancestors(config: Mapping[str, Any], sources: Mapping[str, Source | OwnSource]) -> list[Mapping[str, Any]]:
    """What the checkpoints of `init` and `algo.teacher` say of themselves.

    Raises:
        InputError: one of them is not finished, was trained on classes of validation or test, or on pixels that were
            scaled otherwise; or the teacher has no outputs for these training classes.
    """
    found = []
    for name, place in _named(config):
        about = _about(name, place, config, sources)
        found.append(about)
        if name == "algo.teacher" and about["split_hash"] != sources["train"].fingerprint:
            raise InputError(f"algo.teacher={place} was trained on another split, so it can't teach this one")
    return found


def began_from(config: Mapping[str, Any]) -> dict[str, str]:
    """A hash of the weights behind `init` and `algo.teacher`, by these names; none of what is no longer there."""
    found = {}
    for name, place in _named(config):
        with suppress(InputError):
            meta = checkpoint.read(checkpoint.find(Path(place))).meta
            weights = trees.under("params", meta.params) | trees.under("buffers", meta.buffers)
            found[name] = checkpoint.digest("", weights)
    return found


def changed(config: Mapping[str, Any], begun: Mapping[str, str]) -> list[str]:
    """A line for each of these that is another by now than what a run began from; one in the same place has the same
    name, and so has the run."""
    now, named = began_from(config) if begun else {}, dict(_named(config))
    return [
        f"{name}={named[name]} is another by now than this run began from; rerun=true runs it afresh"
        for name, weights in now.items()
        if begun.get(name, weights) != weights
    ]


def _named(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    places = {"init": config["init"], "algo.teacher": config["algo"].get("teacher")}
    return ((name, place) for name, place in places.items() if place is not None)


def _about(
    name: str, given: Any, config: Mapping[str, Any], sources: Mapping[str, Source | OwnSource]
) -> Mapping[str, Any]:
    if not isinstance(given, str):
        raise InputError(f"{name} is {given!r}; it must be the path of a run or a checkpoint")
    place = Path(given)
    path = checkpoint.find(place)
    if place.is_dir() and (place / "metrics.jsonl").is_file() and not (place / "DONE").is_file():
        raise InputError(f"{name}={place} is not finished; its weights may still change")
    found = checkpoint.read(path)
    if name == "algo.teacher" and "classifier.weight" not in found.meta.params:
        raise InputError(f"{name}={place} is no pre-trained run: it has no classifier of all training classes")
    if (theirs := found.about["config"]["scaling"]) != config["scaling"]:
        raise InputError(f"{name}={place} was trained with scaling={theirs}; set the same, not {config['scaling']}")
    for split in ("val", "test"):
        source = sources[split]
        if isinstance(source, Source) and (known := set(found.about["trained_on"]) & set(source.new_hashes)):
            n = len(known)
            raise InputError(f"{name}={place} was trained on {n} classes of {split}; a figure would mean nothing")
    return found.about
