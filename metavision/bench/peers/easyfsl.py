"""easyfsl: `PrototypicalNetworks`."""

import torch
from torch import Tensor

from metavision.adapters import easyfsl
from metavision.bench.peers.base import Peer, loss
from metavision.bench.peers.network import Network
from metavision.bench.work import Work
from metavision.types import Episode


class EasyFSL(Peer):
    """As in its episodic training, but with squared distances, as the paper has them: its scores are plain ones."""

    def __init__(self, work: Work, net: Network) -> None:
        super().__init__(work, net)
        self.method = easyfsl.prototypical(net.backbone).train(net.training)

    @staticmethod
    def has(work: Work, *, train: bool) -> bool:  # noqa: ARG004
        return work.method == "protonet"

    def backward(self, task: Episode) -> None:
        loss(self._logits(task), task.query.y).backward()

    def answers(self, task: Episode) -> Tensor:
        with torch.no_grad():
            return self._logits(task)

    def _logits(self, task: Episode) -> Tensor:
        self.method.process_support_set(task.support.x, task.support.y)
        return -self.method(task.query.x).square()
