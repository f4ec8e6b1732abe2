"""What is printed of a classifier."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from metavision.classify.classifier import Classifier
from metavision.classify.heads.own import CHOICE_FOLDS
from metavision.cli.results import pretrained
from metavision.console import stdout

SHOWN = 20  # classes, pairs, or files that are listed


def show(classifier: Classifier, path: Path) -> None:
    """Prints what a classifier was made of, how well it is likely to do, and what is to be seen to."""
    card, k, n = classifier.card, len(classifier.support.classes), len(classifier.support.names)
    origin = classifier.network.about
    source = f"run {origin['run']}" if "run" in origin else f"backbone {origin['backbone']}"
    stdout.print(_classes(classifier))
    lines = [
        f"{n} images of {k} classes; {source}",
        *_weights(origin),
        f"head: {card['head']}",
        *([f"chosen on the support, by {CHOICE_FOLDS} folds: {card['choice']}"] if card["choice"] else []),
        *_estimate(classifier),
        *_skipped(card["skipped"]),
        f"classifier: {path} ({path.stat().st_size / 2**20:.1f} MiB)",
        f"next: metavision predict {shlex.quote(str(path))} PHOTOS --out labels.csv --sheet labels.html",
    ]
    for line in lines:
        stdout.print(line, soft_wrap=True, markup=False)


def _weights(origin: Mapping[str, Any]) -> Iterator[str]:
    """Whatever was trained on more than a data set's training classes says so."""
    if origin["track"] != "strict":
        yield f"track: {origin['track']}"
    if origin["pretrained"] is not None:
        yield pretrained(origin["pretrained"])


def _classes(classifier: Classifier) -> Table:
    """A row for each class, or for those that are told worst."""
    found, names = classifier.card["estimate"] or {}, classifier.support.classes
    recalls = found.get("by_class", [None] * len(names))
    order = sorted(range(len(names)), key=lambda c: (recalls[c] is None, recalls[c] or 0.0))
    shown = sorted(order[:SHOWN]) if len(order) > SHOWN else range(len(names))
    title = f"{SHOWN} classes told worst of {len(names)}" if len(order) > SHOWN else None
    table = Table(title=title, title_justify="left")
    table.add_column("class", overflow="fold")
    table.add_column("images", justify="right")
    table.add_column("told right, held out", justify="right")
    table.add_column("most often taken for", overflow="fold")
    for c in shown:
        other = max(
            (
                (share, pair[there])
                for pair in found.get("confused", [])
                for here, there, share in _sides(pair)
                if pair[here] == c
            ),
            default=(0.0, -1),
        )
        taken = f"{names[other[1]]}, {100 * other[0]:.0f} %" if other[0] > 0 else ""
        right = "" if recalls[c] is None else f"{100 * recalls[c]:.0f} %"
        table.add_row(escape(names[c]), str(classifier.card["images"][c]), right, escape(taken))
    return table


def _sides(pair: dict[str, Any]) -> Iterator[tuple[str, str, float]]:
    yield "a", "b", pair["a_as_b"]
    yield "b", "a", pair["b_as_a"]


def _estimate(classifier: Classifier) -> Iterator[str]:
    found, names, files = classifier.card["estimate"], classifier.support.classes, classifier.support.names
    if found is None and max(classifier.card["images"]) > 1:
        yield "accuracy: not estimated, and probabilities not calibrated, since folds=0"
        return
    if found is None:
        yield "accuracy: not known, since every class has one image, so that none can be held out; two make a figure"
        yield "probabilities are not calibrated, for the same reason"
        return
    low, high = 100 * found["low"], 100 * found["high"]
    yield (
        f"accuracy: {100 * found['accuracy']:.1f} %, on new images likely {low:.1f} to {high:.1f} % (95 % interval; "
        f"{found['images']} images held out, {found['how']}; by chance {100 / len(names):.1f} %)"
    )
    if found["confused"]:
        told = [f"{names[pair['a']]} and {names[pair['b']]}" for pair in found["confused"][:3]]
        yield f"most confused: {'; '.join(told)}"
    if found["curve"]:
        curve = ", ".join(f"{point['shot']}: {100 * point['accuracy']:.1f}" for point in found["curve"])
        yield f"accuracy in % by images a class: {curve}"
    if found["likely"]:
        likely = ", ".join(f"{point['shot']}: {100 * point['accuracy']:.0f}" for point in found["likely"])
        yield f"  and by its trend likely, roughly: {likely}"
    if found["suspects"]:
        yield "look mislabelled:"
    for one in found["suspects"]:
        row = one["row"]
        yield (
            f"  {files[row]}: labelled {names[classifier.support.y[row]]} ({100 * one['probability']:.0f} %), "
            f"looks like {names[one['told']]} ({100 * one['instead']:.0f} %)"
        )


def _skipped(skipped: dict[str, str]) -> Iterator[str]:
    if skipped:
        yield f"left out: {len(skipped)} files"
    for name, why in list(skipped.items())[:SHOWN]:
        yield f"  {name} {why}"
    if len(skipped) > SHOWN:
        yield f"  and {len(skipped) - SHOWN} more; all are in the classifier's card"
