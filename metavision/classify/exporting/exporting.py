"""Writes a classifier for other programs, where they would get its answers; else not at all."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

import metavision
from metavision.classify.classifier import Classifier
from metavision.classify.exporting import formats, int8
from metavision.classify.exporting.program import program
from metavision.classify.originals import originals
from metavision.classify.whole import Whole
from metavision.drafts import draft_of
from metavision.errors import InputError
from metavision.seeds import generator

CLOSE = 1e-4  # that probabilities may differ by
TRIED = 100  # images at least, of the support and of noise
SEVERAL, BATCH = 7, 32  # sizes of batches, besides 1: a graph might hold for some alone
FORMATS: dict[str, tuple[Callable[..., None], Callable[[Path], formats.Answer]]] = {
    ".onnx": (formats.write_onnx, formats.read_onnx),
    ".pt2": (formats.write_torch, formats.read_torch),
}
INPUTS = {"uint8": torch.uint8, "float32": torch.float32}


class Exported(NamedTuple):
    """What was written.

    Args:
        files: with the card of each beside it.
        card: JSON of what a user of them has to know.
        missing: how many images of the support were not at hand to be tried.
    """

    files: list[Path]
    card: dict[str, Any]
    missing: int


def export(
    classifier: Classifier,
    files: Sequence[Path],
    places: Sequence[Path] = (),
    *,
    dtype: str = "uint8",
    small: bool = False,
) -> Exported:
    """Files that take images and answer with calibrated probabilities, and a JSON beside each.

    A file is read again by the program that will run it, and tried on images of the support and on noise: where its
    answers differ from the classifier's by more than 1e-4, nothing is left of it.

    Args:
        classifier: on the CPU.
        files: their endings say what they are, .onnx or .pt2 (torch.export).
        places: where the support's images are.
        dtype: of the images to come: uint8, or float32 in [0, 1].
        small: with int8 weights; then it is held to what these answer.

    Raises:
        InputError: it can't be written, or answers otherwise.
    """
    rows = list(range(min(TRIED, len(classifier.support.names))))
    found = originals(classifier, rows, places)
    rows = sorted(found.by_row)
    images = _tried(classifier, [found.by_row[row].pixels for row in rows])
    whole = Whole(classifier).eval()
    expected, about = classifier.answers(images, 0).probabilities, None
    if small:
        whole = int8.quantized(whole)
        about = int8.compared(classifier, whole, images, rows)
        with torch.no_grad():
            expected = torch.cat([whole(some) for some in images.split(BATCH)])
    made = program(whole, INPUTS[dtype])
    card = {**_card(classifier, dtype), "int8": about}
    given = (images if dtype == "uint8" else images.float() / 255).numpy()
    with ExitStack() as stack:
        drafts = [stack.enter_context(draft_of(file)) for file in files]
        differences = [_written(made, card, *pair, given, expected.numpy()) for pair in zip(files, drafts, strict=True)]
        tried = {"images_of_support": len(rows), "noise": len(images) - len(rows)}
        card["checked"] = {**tried, "largest_difference": max(differences)}
        for file in files:
            beside = stack.enter_context(draft_of(file.with_name(f"{file.name}.json")))
            beside.write_text(json.dumps(card, indent=1, ensure_ascii=False), encoding="utf-8")
    return Exported(list(files), card, len(found.missing) + len(found.changed))


def _written(
    made: ExportedProgram, card: Mapping[str, Any], file: Path, draft: Path, images: np.ndarray, expected: np.ndarray
) -> float:
    """Writes a draft, and returns by how much its answers differ.

    Raises:
        InputError: by too much.
    """
    write, read = FORMATS[file.suffix]
    write(made, card, draft)
    difference = _difference(read(draft), images, expected)
    if not difference <= CLOSE:
        raise InputError(
            f"{file} would answer otherwise than the classifier: probabilities differ by {difference:.2g}, and at "
            f"most {CLOSE} is let through; it is not written"
        )
    return difference


def _tried(classifier: Classifier, own: Sequence[np.ndarray]) -> Tensor:
    """Images (m, C, H, W) uint8: those of the support, and noise of all degrees of coarseness behind them."""
    noise = torch.rand(TRIED - len(own), *classifier.network.preparing.shape, generator=generator("exported"))
    level = torch.linspace(0, 1, len(noise)).view(-1, 1, 1, 1)  # flat to rough
    filled = 255 * (level * noise + (1 - level) * noise[:, :, :1, :1])
    return torch.cat([torch.from_numpy(np.stack([*own])), filled.to(torch.uint8)]) if own else filled.to(torch.uint8)


def _difference(answer: formats.Answer, images: np.ndarray, expected: np.ndarray) -> float:
    """The largest of any probability, over batches of one, of several, and of many images."""
    parts = [images[:1], images[1 : 1 + SEVERAL], *np.array_split(images[1 + SEVERAL :], -(-len(images) // BATCH))]
    got = np.concatenate([answer(np.ascontiguousarray(part)) for part in parts])
    return float(np.abs(got - expected).max())


def _card(classifier: Classifier, dtype: str) -> dict[str, Any]:
    preparing, estimate = classifier.network.preparing, classifier.card.get("estimate")
    decoder, expected = preparing.decoder, preparing.expected
    steps: Mapping[str, Any] = {
        "upright": "as EXIF says; what is transparent turns white",
        "color": decoder.color,
        "fit": decoder.fit,
        "resize": decoder.size if expected is None else expected.resized,
        "resample": f"{decoder.resample if expected is None else expected.resample}, as Pillow's",
        "center_crop": decoder.size,
        "invert": decoder.invert,
        "scaling": "none: the graph has it",
    }
    return {
        "classes": list(classifier.support.classes),
        "input": {
            "name": formats.INPUT,
            "dtype": dtype,
            "range": [0, 255] if dtype == "uint8" else [0, 1],
            "shape": ["n", *preparing.shape],
        },
        "output": {
            "name": formats.OUTPUT,
            "shape": ["n", len(classifier.support.classes)],
            "calibrated": estimate is not None,
            "temperature": classifier.temperature,
        },
        "preprocessing": steps,
        "network": dict(classifier.network.about),
        "head": classifier.card.get("head", classifier.head.name),
        "accuracy": {key: estimate[key] for key in ("accuracy", "low", "high")} if estimate else None,
        "metavision": metavision.__version__,
    }
