"""higher: `innerloop_ctx` with torch's SGD."""

import torch
from torch import Tensor

from metavision.adapters.optional import optional
from metavision.bench.peers.base import Peer, loss
from metavision.bench.peers.network import Network
from metavision.bench.work import Work
from metavision.types import Episode


class Higher(Peer):
    """As in its MAML example."""

    def __init__(self, work: Work, net: Network) -> None:
        super().__init__(work, net)
        self.package = optional("higher")

    @staticmethod
    def has(work: Work, *, train: bool) -> bool:  # noqa: ARG004
        return work.method != "protonet"

    def backward(self, task: Episode) -> None:
        x, query = self.inputs(task)
        fast = self._adapted(x, task.support.y, first_order=self.work.first_order)
        cost = loss(fast(query), task.query.y)
        if not self.work.first_order:
            cost.backward()
            return
        # Fast weights are no functions of the network's here: theirs are the gradients.
        for p, g in zip(self.moving.parameters(), torch.autograd.grad(cost, list(fast.parameters())), strict=True):
            p.grad = g if p.grad is None else p.grad + g

    def answers(self, task: Episode) -> Tensor:
        x, query = self.features(task)
        fast = self._adapted(x, task.support.y, first_order=True)
        with torch.no_grad():
            return fast(query)

    def _adapted(self, x: Tensor, y: Tensor, *, first_order: bool) -> torch.nn.Module:
        optimizer = torch.optim.SGD(self.moving.parameters(), lr=self.work.lr)
        with self.package.innerloop_ctx(
            self.moving, optimizer, copy_initial_weights=False, track_higher_grads=not first_order
        ) as (fast, steps):
            for _ in range(self.work.steps):
                steps.step(loss(fast(x), y))
        return fast
