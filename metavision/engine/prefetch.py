"""The batch of the next step, made while the device works on this one."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

import torch

from metavision import trees
from metavision.engine.graphs import RECORDING


class Prefetcher:
    """Batches by the step that they are for: `prefetcher(i)` is `make(i)`, and begins to make that of step i + 1.

    In a thread, which ends with the scope, and on a GPU on a stream of its own. An error of `make` is raised where its
    batch is asked for.

    Args:
        make: the batch of a step, any pytree: a function of the step alone, which draws from no global generator.
        steps: there are so many; no batch is made for those behind.
        device: where batches come to lie.
    """

    def __init__(self, make: Callable[[int], Any], steps: int, device: torch.device) -> None:
        self.make, self.steps, self.device = make, steps, device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._thread = ThreadPoolExecutor(1, "batches")
        self._begun: dict[int, Future[Any]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def __call__(self, step: int) -> Any:
        """The batch of a step."""
        begun = self._begun.pop(step, None) or self._thread.submit(self._made, step)
        batch = begun.result()
        if self._stream is not None:
            self._hand_over(batch, self._stream)
        self._begun = {step + 1: self._thread.submit(self._made, step + 1)} if step + 1 < self.steps else {}
        return batch

    def _made(self, step: int) -> Any:
        if self._stream is None:
            return self.make(step)
        with RECORDING, torch.cuda.device(self.device), torch.cuda.stream(self._stream):
            return self.make(step)

    def _hand_over(self, batch: Any, made_on: torch.cuda.Stream) -> None:
        """The device waits for the batch, and not the host."""
        current = torch.cuda.current_stream(self.device)
        current.wait_stream(made_on)
        for tensor in trees.tensors(batch):
            tensor.record_stream(current)  # its memory is taken again only behind the work on it
