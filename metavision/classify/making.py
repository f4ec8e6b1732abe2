"""Makes classifiers: of a folder, and of another classifier by adding and removing classes."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from metavision.classify import estimate, photos
from metavision.classify.choosing import chosen
from metavision.classify.classifier import Classifier, Support
from metavision.classify.heads.base import Head
from metavision.classify.network import Network
from metavision.classify.photos import Photos
from metavision.engine import device as devices
from metavision.errors import InputError, suggestion
from metavision.records.provenance import provenance


def made(asked: Mapping[str, Any]) -> Classifier:
    """A classifier of a folder of labelled images.

    Args:
        asked: `conf/adapt.yaml`, resolved: run or backbone, support, head, unknown.

    Raises:
        InputError: neither or both of run and backbone are given, they don't fit, or the folder is not as it must be.
    """
    _checked(asked["folds"])
    place = Path(asked["support"])
    listing = photos.listed(place)
    network = _network(asked, devices.resolve(asked["device"]), len(listing.classes))
    y = torch.from_numpy(listing.labels)
    algorithm = asked["run"] is not None or asked["algo"] is not None
    choose = partial(chosen, asked["head"], y=y, k=len(listing.classes), algorithm=algorithm)
    choose(network)  # which may refuse: before images are read
    found = photos.read(listing, network.preparing, place)
    network = network.settled(torch.from_numpy(found.pixels))
    head, why = choose(network)
    about = {"folder": place.absolute().name, "head": f"{head.name}, {why}", "skipped": found.skipped}
    return _whole(network, head, _support(network, head, found), asked["unknown"], asked["folds"], about)


def changed(
    before: Classifier, add: Sequence[str | Path] = (), remove: Sequence[str] = (), folds: int | None = None
) -> Classifier:
    """A classifier with other classes: no image of it is read again.

    It is what would be made of the same images from the beginning, since a head is a function of the kept support. Only
    statistics of a network that has none of its own (`norm=batch`), and a centre likewise, stay those of the first
    images.

    Args:
        before: that is left as it is.
        add: folders of class folders, or the folder of one class.
        remove: names of classes.
        folds: of the estimate.

    Raises:
        InputError: there is no such class, a class is there already, or fewer than two are left.
    """
    _checked(folds)
    if lost := [name for name in remove if name not in before.support.classes]:
        raise InputError(f"there is no class {lost[0]} to remove{suggestion(lost[0], before.support.classes)}")
    support, skipped = _without(before.support, remove), dict(before.card.get("skipped", {}))
    for place in map(Path, add):
        found = photos.read(photos.listed(place, least=1), before.network.preparing, place)
        if twice := set(found.classes) & set(support.classes):
            raise InputError(
                f"there is a class {min(twice)} already; remove={min(twice)} in the same command replaces it"
            )
        support = _joined(support, _support(before.network, before.head, found))
        skipped |= found.skipped
    if len(support.classes) < 2:
        raise InputError(f"{len(support.classes)} class would be left, and at least 2 are needed to tell apart")
    before.head.check(len(support.classes))
    about = {key: before.card[key] for key in ("folder", "head") if key in before.card} | {"skipped": skipped}
    return _whole(before.network, before.head, support, before.unknown, folds, about)


def _checked(folds: int | None) -> None:
    if folds == 1:
        raise InputError("folds is 1; one part of at least 2 is held out at a time, and 0 makes no estimate")


def _network(asked: Mapping[str, Any], place: torch.device, k: int) -> Network:
    if (asked["run"] is None) == (asked["backbone"] is None):
        what = "both" if asked["run"] is not None else "neither"
        raise InputError(f"{what} of run= and backbone= given; one is needed, where the network comes from")
    if asked["run"] is not None:
        return Network.of_run(asked["run"], place, asked["algo"], k)
    config = {**asked, "algo": asked["algo"] or {"_target_": "metavision.algorithms.protonet.ProtoNet"}}
    return Network.of_backbone(config, asked["backbone_name"], asked["size"], place, k)


def _support(network: Network, head: Head, found: Photos) -> Support:
    pixels = torch.from_numpy(found.pixels)
    z = network.features(pixels)
    return Support(found.classes, found.names, torch.from_numpy(found.y), z, pixels if head.sees else None)


def _without(support: Support, names: Sequence[str]) -> Support:
    left = tuple(name for name in support.classes if name not in names)
    place = torch.tensor([left.index(name) if name in left else -1 for name in support.classes])
    y = place[support.y]
    rows = (y >= 0).nonzero()[:, 0]
    pixels = None if support.pixels is None else support.pixels[rows]
    return Support(left, tuple(support.names[row] for row in rows), y[rows], support.z[rows], pixels)


def _joined(a: Support, b: Support) -> Support:
    classes = tuple(sorted((*a.classes, *b.classes)))
    places = (torch.tensor([classes.index(name) for name in part.classes]) for part in (a, b))
    y = torch.cat([place[part.y] for place, part in zip(places, (a, b), strict=True)])
    order = y.argsort(stable=True)
    names = (*a.names, *b.names)
    pixels = None
    if a.pixels is not None and b.pixels is not None:
        pixels = torch.cat([a.pixels, b.pixels])[order]
    return Support(classes, tuple(names[row] for row in order), y[order], torch.cat([a.z, b.z])[order], pixels)


def _whole(
    network: Network, head: Head, support: Support, unknown: float, folds: int | None, about: Mapping[str, Any]
) -> Classifier:
    """The classifier, with its card."""
    classifier, out = Classifier.fit(network, head, support, unknown, folds)
    y, k = support.y, len(support.classes)
    card: dict[str, Any] = {
        **about,
        "choice": getattr(classifier.task, "choice", ""),
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "provenance": {key: value for key, value in provenance().items() if key != "command"},  # which names folders
        "images": torch.bincount(y, minlength=k).tolist(),
        "estimate": None,
    }
    if out is not None:
        points = estimate.curve(classifier.head, classifier.seen(), y, k)
        shots = (len(y) // k, 2 * (len(y) // k), 4 * (len(y) // k))
        likely = [{"shot": shot, "accuracy": estimate.more_shots(points, shot)} for shot in shots if len(points) > 1]
        card["estimate"] = {
            **estimate.accuracy(out, y),
            "by_class": estimate.by_class(out, y, k),
            "confused": estimate.confused(out, y, k),
            "suspects": estimate.suspects(out, y, classifier.temperature),
            "curve": points,
            "likely": likely,
        }
    return replace(classifier, card=card)
