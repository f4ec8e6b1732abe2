"""`engine=learn2learn`: the inner loops of MAML, FOMAML, ANIL and Meta-SGD by learn2learn's own classes."""

import copy
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from metavision import trees
from metavision.adapters.learn2learn import learn2learn
from metavision.algorithms.base import Algorithm
from metavision.algorithms.maml import MAML
from metavision.errors import InputError
from metavision.rules.learned_lr import LearnedLR
from metavision.rules.sgd import SGD
from metavision.types import Examples, Inputs, Meta, P


def by_learn2learn(algorithm: Algorithm) -> Algorithm:
    """The same algorithm, with its inner loop by learn2learn.

    Raises:
        InputError: learn2learn has no such algorithm, or is not installed.
    """
    rule = getattr(algorithm, "rule", None)
    if type(algorithm) is not MAML or type(rule) not in (SGD, LearnedLR) or algorithm.moves == "backbone":
        raise InputError(
            f"engine=learn2learn runs maml, fomaml, anil and metasgd; {type(algorithm).__name__} as it is set needs "
            "engine=native"
        )
    if isinstance(rule, LearnedLR) and algorithm.moves != "all":
        raise InputError("learn2learn's Meta-SGD moves all weights; algo.moves must be all, or engine=native")
    learn2learn()
    return Learn2Learn(**{field.name: getattr(algorithm, field.name) for field in fields(algorithm)})


@dataclass(frozen=True, eq=False, kw_only=True)
class Learn2Learn(MAML):
    """MAML whose fast weights are made by learn2learn, on the same weights, episodes and backbones."""

    mapping: ClassVar[str] = "loop"  # its autograd does not map

    def adapt(self, meta: Meta, support: Examples, unlabelled: Inputs | None = None) -> P:  # noqa: ARG002
        evaluating = not torch.is_grad_enabled()
        with torch.enable_grad():
            weights = {n: p if p.requires_grad else p.detach().requires_grad_() for n, p in meta.params.items()}
            still = {name: p for name, p in weights.items() if not name.startswith("rule.")}
            fast = self._adapted(weights, still, meta.buffers, support)
        return trees.detach({**still, **fast}) if evaluating else {**still, **fast}

    def _adapted(self, weights: P, still: P, buffers: P, support: Examples) -> P:
        algorithms = learn2learn().algorithms
        if self.moves == "head":
            z, head = self.embed(still, buffers, support.inputs), nn.Linear(1, 1)
            learner = algorithms.MAML(_placed(head, trees.select(still, "head")), self._lr, self.first_order).clone()
            for _ in range(self.steps):
                learner.adapt(self._loss(learner(z), support))
            return trees.under("head", dict(learner.module.named_parameters()))
        net = _placed(_Net(copy.deepcopy(self.backbone)), {**still, **buffers})
        names = [name for name, _ in net.named_parameters()]
        if isinstance(self.rule, LearnedLR):
            rates = trees.select(weights, "rule")
            learner = algorithms.MetaSGD(net, first_order=self.first_order)
            # A ParameterList would take the rates out of the graph.
            del learner.lrs
            learner.lrs = [rates[name] for name in names]
        else:
            learner = algorithms.MAML(net, self._lr, self.first_order).clone()
        for _ in range(self.steps):
            learner.adapt(self._loss(learner(support.x, support.mask), support))
        return dict(learner.module.named_parameters())

    def _loss(self, outputs: Tensor, support: Examples) -> Tensor:
        return self.problem.loss(self.problem.among(outputs, support), support)

    @property
    def _lr(self) -> float:
        return self.rule.lr  # type: ignore[attr-defined]


class _Net(nn.Module):
    """Backbone and head as one module."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(1, 1)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.head(self.backbone(x, mask))


def _placed(module: nn.Module, tensors: P) -> Any:
    """The module with tensors of the graph in the place of its parameters and buffers."""
    for name, tensor in tensors.items():
        path, _, last = name.rpartition(".")
        owner = module.get_submodule(path)
        (owner._parameters if last in owner._parameters else owner._buffers)[last] = tensor  # type: ignore[assignment] # noqa: SLF001
    return module
