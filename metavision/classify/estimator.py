"""The heads as an estimator of scikit-learn's kind, on features that are there already."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from metavision.classify.calibrating import temperature
from metavision.classify.heads import KINDS
from metavision.classify.holding_out import held_out
from metavision.errors import InputError, suggestion


class FewShotClassifier:
    """A few-shot head on features, with calibrated probabilities.

    Works in scikit-learn's pipelines, searches and cross-validation, and needs none of it.

    Args:
        head: prototypes, ridge or logistic.
        penalty: of ridge (alpha), or of logistic (C); prototypes have none.
    """

    def __init__(self, head: str = "prototypes", penalty: float = 1.0) -> None:
        self.head = head
        self.penalty = penalty

    def fit(self, X: Any, y: Sequence[Any]) -> Self:  # noqa: N803 - scikit-learn's name
        """X (n, d) features, y (n,) labels of any kind that numpy sorts.

        Raises:
            InputError: shapes don't fit, a number is not finite, there is one class, or no such head.
        """
        if self.head not in KINDS:
            raise InputError(f"there is no head {self.head}{suggestion(self.head, KINDS)}")
        x = _numbers(X)
        labels = np.asarray(y)
        if labels.shape != (len(x),):
            raise InputError(f"y is of shape {labels.shape}; needed is ({len(x)},), a label for each row of X")
        self.classes_, index = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(f"y has {len(self.classes_)} class; at least 2 are needed to tell apart")
        targets, k = torch.from_numpy(index), len(self.classes_)
        settings = {} if self.head == "prototypes" else {"penalty": self.penalty}
        self.head_ = KINDS[self.head](**settings).suited(x)
        self.task_ = self.head_.fit(x, targets, k)
        out = held_out(self.head_, x, targets, k)
        self.temperature_ = 1.0
        if out is not None:
            self.temperature_ = temperature(out.logits, targets[out.rows], len(out.rows) // out.times)
        self.n_features_in_ = x.shape[1]
        return self

    def decision_function(self, X: Any) -> np.ndarray:  # noqa: N803
        """Logits (n, k) at the temperature that held-out rows ask for."""
        if not hasattr(self, "task_"):
            raise InputError("this classifier is not fitted yet; call fit first")
        x = _numbers(X)
        if x.shape[1] != self.n_features_in_:
            raise InputError(f"X has {x.shape[1]} features, but FewShotClassifier is expecting {self.n_features_in_}")
        return (self.head_.logits(self.task_, x) / self.temperature_).numpy()

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """(n, k), by the order of `classes_`."""
        return torch.from_numpy(self.decision_function(X)).softmax(1).numpy()

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Labels (n,)."""
        best = self.decision_function(X).argmax(1)
        return self.classes_[best]

    def score(self, X: Any, y: Sequence[Any]) -> float:  # noqa: N803
        """The share of rows whose label is told right."""
        return float((self.predict(X) == np.asarray(y)).mean())

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002
        return {"head": self.head, "penalty": self.penalty}

    def set_params(self, **params: Any) -> Self:
        for name, value in params.items():
            if name not in self.get_params():
                raise InputError(f"FewShotClassifier has no parameter {name}{suggestion(name, self.get_params())}")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        return f"FewShotClassifier(head={self.head!r}, penalty={self.penalty!r})"

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier", target_tags=TargetTags(required=True), classifier_tags=ClassifierTags()
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "task_")


def _numbers(x: Any) -> Tensor:
    rows = torch.as_tensor(np.asarray(x, dtype=np.float64) if not isinstance(x, Tensor) else x).to(torch.float64)
    if rows.ndim != 2 or not rows.numel():
        raise InputError(f"X is of shape {tuple(rows.shape)}; features (n, d) are needed")
    if not rows.isfinite().all():
        raise InputError("X holds NaN or infinity")
    return rows
