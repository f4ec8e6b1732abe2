"""Whether the classes of a test were new to the network, as a few-shot figure takes them to be."""

from collections.abc import Mapping
from typing import Any


def same_classes(result: Mapping[str, Any]) -> bool:
    """Whether it is of ordinary classification: the classes of training, with other images."""
    return bool(result.get("classes", "new").startswith("the same"))


def not_new(result: Mapping[str, Any]) -> str:
    """What must stand beside the figure; empty where no class is known to have been trained on."""
    marks = ["classes as in training"] * same_classes(result)
    if leak := result.get("leak"):
        marks.append(f"{leak} classes trained on")
    return ", ".join(marks)
