"""learn2learn: `algorithms.MAML`, on the head alone for ANIL; `nn.PrototypicalClassifier`."""

import torch
from torch import Tensor

from metavision.adapters.learn2learn import learn2learn
from metavision.bench.peers.base import Peer, loss
from metavision.bench.peers.network import Network
from metavision.bench.work import Work
from metavision.types import Episode


class Learn2Learn(Peer):
    """As in its examples, which clone and adapt a learner for every task."""

    def __init__(self, work: Work, net: Network) -> None:
        super().__init__(work, net)
        self.package = learn2learn()
        self.maml = self.package.algorithms.MAML(self.moving, lr=work.lr, first_order=work.first_order)

    @staticmethod
    def has(work: Work, *, train: bool) -> bool:  # noqa: ARG004
        return True

    def backward(self, task: Episode) -> None:
        if self.work.method == "protonet":
            logits = self._prototypical(task)
        else:
            x, query = self.inputs(task)
            logits = self._adapted(x, task.support.y, first_order=self.work.first_order)(query)
        loss(logits, task.query.y).backward()

    def answers(self, task: Episode) -> Tensor:
        if self.work.method == "protonet":
            with torch.no_grad():
                return self._prototypical(task)
        x, query = self.features(task)
        learner = self._adapted(x, task.support.y, first_order=True)
        with torch.no_grad():
            return learner(query)

    def _adapted(self, x: Tensor, y: Tensor, *, first_order: bool) -> torch.nn.Module:
        learner = self.maml.clone(first_order=first_order)
        for _ in range(self.work.steps):
            learner.adapt(loss(learner(x), y))
        return learner

    def _prototypical(self, task: Episode) -> Tensor:
        classifier = self.package.nn.PrototypicalClassifier()
        classifier.fit_(self.net(task.support.x), task.support.y)
        return classifier(self.net(task.query.x))
