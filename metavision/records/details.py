"""What the arrays of an evaluation say beyond its mean: other classes, single classes, calibration."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from metavision.records.calibration import calibration, finite
from metavision.records.classes import Confusion, by_class, over_classes

SEED = 0  # of bootstraps: the same arrays give the same figures


def detailed(values: np.ndarray, arrays: Mapping[str, np.ndarray], *, alike: bool) -> dict[str, Any]:
    """Figures of an evaluation of classes, and in how many episodes outputs were `not_finite`, where any were.

    Args:
        values: (n,) accuracies, or errors where there are no classes.
        arrays: `confusion`, `classes`, `bins`, `brier`, see `Classification.details`.
        alike: whether the classes of an episode are drawn one by one, and not by groups.
    """
    there = np.isfinite(values)
    if "bins" in arrays:
        there &= finite(arrays["bins"], arrays["brier"])
    lost = {} if there.all() else {"not_finite": int((~there).sum())}
    if "classes" not in arrays:
        return lost
    return {
        **lost,
        **({"over_classes": over_classes(values, arrays["classes"]).as_dict()} if alike else {}),
        "calibration": calibration(arrays["bins"], arrays["brier"], np.random.default_rng(SEED)),
    }


def class_rows(arrays: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """A row for every class that was asked about: its name, queries, and precision, recall and F1 with half-widths."""
    names = tuple(str(name) for name in arrays["names"])
    rows: list[dict[str, Any]] = []
    for row in by_class(Confusion(arrays["confusion"], arrays["classes"], len(names)), names):
        rows.append({"class": row["class"], "queries": row["queries"]})
        for name in ("precision", "recall", "f1"):
            rows[-1] |= {name: row[name]["mean"], f"{name} ±": row[name]["half_width"]}
    return rows
