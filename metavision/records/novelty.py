"""Whether the classes of a test were new to the network, as a few-shot figure takes them to be."""

from collections.abc import Mapping
from typing import Any


def same_classes(result: Mapping[str, Any]) -> bool:
    """Whether it is of ordinary classification, all or in part: the classes of training, with other images."""
    return "the same as in training" in result.get("classes", "new")


def not_new(result: Mapping[str, Any]) -> str:
    """What must stand beside the figure; empty where no class is known to have been trained on."""
    some = "some " * result.get("classes", "new").startswith("in part")
    marks = [f"{some}classes as in training"] * same_classes(result)
    if leak := result.get("leak"):
        marks.append(f"{leak} classes trained on")
    return ", ".join(marks)
