"""Which checkpoint is tested: named rules that look at validation alone."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import nan
from typing import Any


@dataclass(frozen=True)
class Best:
    """Follows the validation metric of a run.

    Args:
        step: of the best validation so far; -1 before the first.
        value: its metric, negated where less is better.
        stale: validations since then.
    """

    step: int = -1
    value: float = float("-inf")
    stale: int = 0

    def seen(self, step: int, value: float) -> "Best":
        """What is best after a validation at `step`; of equals the first stays."""
        return Best(step, value, 0) if value > self.value else Best(self.step, self.value, self.stale + 1)

    def as_dict(self) -> dict[str, Any]:
        return {"step": self.step, "value": self.value, "stale": self.stale}


RULES = {"best": "best validation {metric}, the first of equals", "last": "last step"}


def validation(metrics: Iterable[Mapping[str, Any]], metric: str, step: int) -> float:
    """The metric on the validation classes by which the checkpoint of a step was chosen; nan where it is not known.

    Args:
        metrics: rows of a run's `metrics.jsonl`.
        metric: of the problem.
        step: of the checkpoint; a last one is of a step after the last validation.
    """
    rows = [row for row in metrics if row["split"] == "val" and row["step"] <= step]
    value = rows[-1].get(metric) if rows else None
    return nan if value is None else float(value)
