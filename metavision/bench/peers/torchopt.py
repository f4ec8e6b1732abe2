"""TorchOpt: `MetaSGD`, with the network's state taken before a task and put back after it."""

from torch import Tensor

from metavision.adapters.optional import optional
from metavision.bench.peers.base import Peer, loss
from metavision.bench.peers.network import Network
from metavision.bench.work import Work
from metavision.types import Episode


class TorchOpt(Peer):
    """As in its MAML example; it knows no inner loop without a graph."""

    def __init__(self, work: Work, net: Network) -> None:
        super().__init__(work, net)
        self.package = optional("torchopt")

    @staticmethod
    def has(work: Work, *, train: bool) -> bool:
        return train and work.method in ("maml", "anil")

    def backward(self, task: Episode) -> None:
        loss(self.answers(task), task.query.y).backward()

    def answers(self, task: Episode) -> Tensor:
        x, query = self.inputs(task)
        before = self.package.extract_state_dict(self.moving, by="reference", detach_buffers=True)
        steps = self.package.MetaSGD(self.moving, lr=self.work.lr)
        for _ in range(self.work.steps):
            steps.step(loss(self.moving(x), task.support.y))
        logits = self.moving(query)
        self.package.recover_state_dict(self.moving, before)
        return logits
