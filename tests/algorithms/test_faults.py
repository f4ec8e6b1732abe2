"""Faults put in on purpose are caught by the laws and oracles: a check that cannot fail is none."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from metavision import trees
from metavision.algorithms import maml, protonet
from metavision.algorithms.simpleshot import SimpleShot
from metavision.functional.prototypes import prototypes
from metavision.nn.gradient import gradient
from metavision.types import Inputs, Meta, P
from tests.algorithms import test_laws as laws
from tests.algorithms.test_maml import test_first_order_is_the_query_gradient_at_the_adapted_weights as first_order

pytestmark = pytest.mark.usefixtures("float64")


def test_a_lost_detach_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    first_order()
    whole = type("Trees", (), {**vars(trees), "detach": staticmethod(lambda tree: tree)})
    monkeypatch.setattr(maml, "trees", whole)
    monkeypatch.setattr(maml, "gradient", partial(_never, gradient))
    with pytest.raises(AssertionError):
        first_order()


def _never(gradient: Callable[..., P], function: Any, at: P, *rest: Any, constant: bool) -> P:
    return gradient(function, at, *rest)


def test_a_lost_mask_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    laws.test_padding_is_immaterial("protonet", "none")
    monkeypatch.setattr(protonet, "prototypes", lambda z, y, way, mask=None: prototypes(z, y, way))
    with pytest.raises(AssertionError):
        laws.test_padding_is_immaterial("protonet", "none")


def test_centring_on_queries_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    laws.test_queries_see_each_other_where_declared_and_nowhere_else("simpleshot", "none")
    right = SimpleShot.features

    def centred(self: SimpleShot, meta: Meta, inputs: Inputs) -> Tensor:
        z = right(replace(self, unit=False), meta, inputs)
        return torch.nn.functional.normalize(z - z.mean(0), dim=-1)

    monkeypatch.setattr(SimpleShot, "features", centred)
    with pytest.raises(AssertionError):
        laws.test_queries_see_each_other_where_declared_and_nowhere_else("simpleshot", "none")
