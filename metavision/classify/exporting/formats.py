"""The two formats: how a graph is written, and how it answers when it is read again."""

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from metavision.classify.exporting.program import quiet
from metavision.errors import InputError, first_line

INPUT, OUTPUT, KEY = "images", "probabilities", "metavision"
Answer = Callable[[np.ndarray], np.ndarray]  # images (n, C, H, W) to probabilities (n, k)


def write_onnx(program: ExportedProgram, card: Mapping[str, Any], path: Path) -> None:
    """ONNX, with the card as JSON and the classes in its metadata.

    Raises:
        InputError: an operation has no form in ONNX.
    """
    try:
        with quiet():
            made = torch.onnx.export(
                program,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: "n"},),
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # of a foreign exporter
        raise InputError(f"this classifier can't be written as ONNX: {first_line(error)}") from error
    assert made is not None
    texts = {KEY: json.dumps(card, ensure_ascii=False), "classes": json.dumps(card["classes"], ensure_ascii=False)}
    made.model.metadata_props.update(texts)
    made.save(path)


def read_onnx(path: Path) -> Answer:
    """By onnxruntime, on the CPU.

    Raises:
        InputError: it has no place for an operation.
    """
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # its own kinds have no public name
        raise InputError(f"onnxruntime can't run this classifier: {first_line(error)}") from error
    return lambda images: session.run([OUTPUT], {INPUT: images})[0]


def write_torch(program: ExportedProgram, card: Mapping[str, Any], path: Path) -> None:
    """What `torch.export.load` reads, with the card as an extra file `metavision`."""
    held = io.BytesIO()  # a file would have to end in .pt2, and a draft does not
    with quiet():
        torch.export.save(program, held, extra_files={KEY: json.dumps(card, ensure_ascii=False)})
    path.write_bytes(held.getvalue())


def read_torch(path: Path) -> Answer:
    """By torch.export, on the CPU."""
    with quiet():
        module = torch.export.load(io.BytesIO(path.read_bytes())).module()

    def answer(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(images)).numpy()

    return answer
