"""What the configuration in a classifier's file may make: parts of networks and algorithms, and nothing else."""

import os
import sys
from collections.abc import Mapping
from typing import Any

from metavision.algorithms.base import Algorithm
from metavision.backbones.base import Backbone
from metavision.config import locate
from metavision.errors import InputError

PACKAGES = tuple(f"metavision.{name}." for name in ("algorithms", "backbones", "data.augment", "problems", "rules"))
ADAPTERS = "metavision.adapters.engine."  # functions that make another engine's algorithm of ours
TRUST = "METAVISION_TRUST"  # of the environment: modules of the user's own that a file may have imported, by commas


def trusted(node: Any) -> None:
    """Raises InputError if a node of a configuration, or one below it, names anything to be called but a class of these
    packages, or a backbone or an algorithm of the user's own."""
    if isinstance(node, Mapping):
        if (target := node.get("_target_")) is not None and not _is_part(target):
            raise InputError(f"this classifier would call {target}, which is no part of a network; it is not read")
        if (adapter := node.get("adapter")) is not None and not str(adapter).startswith(ADAPTERS):
            raise InputError(f"this classifier would call {adapter}, which is no engine's adapter; it is not read")
        for inner in node.values():
            trusted(inner)
    elif isinstance(node, list):
        for inner in node:
            trusted(inner)


def found(name: str) -> Any:
    """What a file names, of this program, or of a module that is imported already or trusted: whatever else there is
    would run before it could be looked at.

    Raises:
        InputError: it is of another module, or not there.
    """
    module = str(name).rpartition(".")[0]
    if not (
        module.startswith("metavision.") or module in sys.modules or module in os.environ.get(TRUST, "").split(",")
    ):
        raise InputError(
            f"this classifier needs {name}, which is not of this program; {TRUST}={module} has it imported, "
            "where that is code of yours"
        )
    try:
        return locate(name)
    except (ImportError, AttributeError, ValueError) as error:  # of a name without a dot
        raise InputError(f"this classifier needs {name}, which can't be imported: {error}") from error


def _is_part(target: Any) -> bool:
    part = found(target)
    # By where a class was written, since whatever a module has imported can be found in it, too.
    return isinstance(part, type) and (
        f"{part.__module__}.".startswith(PACKAGES) or issubclass(part, Backbone | Algorithm)
    )
