"""What a peer does, in the manner of its own examples: one task after another, gradients gathered in `.grad`."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from metavision import trees
from metavision.bench.peers.network import Network
from metavision.bench.work import Work
from metavision.engine.mapping import count
from metavision.types import Episode, P


class Peer(ABC):
    """A peer at a kind of work.

    Args:
        work: what is done.
        net: with which weights; its gradients are written.

    Raises:
        InputError: it is not installed.
    """

    def __init__(self, work: Work, net: Network) -> None:
        self.work, self.net = work, net

    @staticmethod
    @abstractmethod
    def has(work: Work, *, train: bool) -> bool:
        """Whether it has a method for this work."""

    @abstractmethod
    def backward(self, task: Episode) -> None:
        """Adds the gradient of a task's query loss after adaptation to that of the network."""

    @abstractmethod
    def answers(self, task: Episode) -> Tensor:
        """Logits (Q, k) of a new task's queries, as at test time: without a graph over the inner steps."""

    def meta_grad(self, tasks: Episode) -> P:
        """The mean gradient over tasks, by the names of our parameters."""
        self.net.zero_grad()
        for t in range(count(tasks)):
            self.backward(trees.index(tasks, t))
        return {name: p.grad / count(tasks) for name, p in self.net.named_parameters() if p.grad is not None}

    def inputs(self, task: Episode) -> tuple[Tensor, Tensor]:
        """What the moving part of the network is given for support and query: images, or features of ANIL."""
        images = task.support.x, task.query.x
        if not self.work.head_only:
            return images
        return self.net.backbone(images[0]), self.net.backbone(images[1])

    def features(self, task: Episode) -> tuple[Tensor, Tensor]:
        """The same for test time, where features need no graph."""
        with torch.no_grad():
            return self.inputs(task)

    @property
    def moving(self) -> torch.nn.Module:
        """What the inner loop moves."""
        return self.net.head if self.work.head_only else self.net


def loss(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits, y)
