"""Explanations as a page that loads nothing, as pictures, and as numbers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from metavision.classify.classifier import Classifier
from metavision.classify.explaining.explanation import Explanation, Witness
from metavision.classify.explaining.overlay import overlay, picture
from metavision.classify.originals import SIDE, Originals
from metavision.classify.pictures import data_url
from metavision.classify.rendering import rendered
from metavision.classify.streaming import UNKNOWN

PAGE, NUMBERS = "index.html", "explanations.json"
LIKELIEST = 5  # classes whose probabilities are shown


def write(folder: Path, classifier: Classifier, found: Sequence[Explanation], pictures: Originals, title: str) -> None:
    """The page, its numbers, and an overlay of every image as a PNG, into a folder."""
    overlays = {one.file: overlay(one.image, one.seen.pixels) for one in found}
    for name, one in zip(overlay_names(found), found, strict=True):
        overlays[one.file].save(folder / name)
    numbers = json.dumps([as_dict(classifier, one) for one in found], indent=1, ensure_ascii=False)
    for name, text in ((NUMBERS, numbers), (PAGE, _page(classifier, found, overlays, pictures, title))):
        (folder / name).write_text(text, encoding="utf-8", errors="surrogateescape")


def overlay_names(found: Sequence[Explanation]) -> list[str]:
    """`fox-010.png` of fox/010.jpg, numbered where there are several of a name."""
    names: dict[str, int] = {}
    told = []
    for one in found:
        stem = "-".join(Path(one.file).with_suffix("").parts[-2:]).replace("/", "").lstrip(".")
        names[stem] = names.get(stem, 0) + 1
        told.append(f"{stem}{f'-{names[stem]}' if names[stem] > 1 else ''}.png")
    return told


def as_dict(classifier: Classifier, one: Explanation) -> dict[str, Any]:
    """An explanation as JSON."""
    classes, names, y = classifier.support.classes, classifier.support.names, classifier.support.y
    return {
        "file": one.file,
        "prediction": prediction(classifier, one),
        "explained": classes[one.explained],
        "probabilities": dict(zip(classes, one.probabilities.tolist(), strict=True)),
        "familiar": one.familiar,
        "logit": one.logit,
        "support": [
            {"file": names[w.row], "class": classes[y[w.row]], **{k: v for k, v in w._asdict().items() if k != "row"}}
            for w in one.witnesses
        ],
        "others": {"images": one.others[0], "contribution": None if one.offset is None else one.others[1]},
        "offset": one.offset,
        "saliency": {
            "logit": one.seen.logit,
            "baseline": one.seen.baseline,
            "sum_of_pixels": float(one.seen.pixels.sum()),
        },
    }


def prediction(classifier: Classifier, one: Explanation) -> str:
    """As `metavision predict` has it."""
    return UNKNOWN if one.familiar <= classifier.unknown else classifier.support.classes[one.probabilities.argmax()]


def _page(
    classifier: Classifier,
    found: Sequence[Explanation],
    overlays: Mapping[str, Image.Image],
    pictures: Originals,
    title: str,
) -> str:
    classes, y = classifier.support.classes, classifier.support.y
    thumbnails = {row: data_url(one.thumbnail) for row, one in pictures.by_row.items()}

    def card(w: Witness) -> dict[str, Any]:
        about = {"name": classifier.support.names[w.row], "class": classes[y[w.row]], "own": thumbnails.get(w.row, "")}
        return {**w._asdict(), **about, "number": w.influence if w.contribution is None else w.contribution}

    cases = []
    for one in found:
        likeliest = one.probabilities.topk(min(LIKELIEST, len(classes)))
        cards = [card(w) for w in one.witnesses]
        cases.append(
            {
                "one": one,
                "prediction": prediction(classifier, one),
                "explained": classes[one.explained],
                "p": float(one.probabilities[one.explained]),
                "bars": [(classes[c], p) for p, c in zip(*(part.tolist() for part in likeliest), strict=True)],
                "image": data_url(picture(one.image)),
                "overlay": data_url(overlays[one.file]),
                "strips": [
                    ("speaks for", [c for c in cards if c["number"] is not None and c["number"] > 0]),
                    ("speaks against", [c for c in cards if c["number"] is not None and c["number"] <= 0][::-1]),
                    ("alone in its class", [c for c in cards if c["number"] is None]),
                ],
                "shown": sum(c["contribution"] or 0.0 for c in cards),
                "pixels": float(one.seen.pixels.sum()),
            }
        )
    return rendered(
        "explaining/page.html",
        title=title,
        cases=cases,
        pictures=pictures,
        side=SIDE,
        unknown=UNKNOWN,
        sums=found[0].offset is not None,
    )
