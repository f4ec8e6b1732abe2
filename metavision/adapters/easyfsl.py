"""easyfsl's sampler, where it is installed; nothing of metavision needs it."""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset, Sampler

from metavision.adapters.optional import optional


def episodes(dataset: Dataset[Any], way: int, shot: int, query: int) -> Iterator[Any]:
    """Tasks of its TaskSampler and a DataLoader, made as its README says, in this process.

    Args:
        dataset: with a method `get_labels`.

    Raises:
        InputError: it is not installed.
    """
    module = optional("easyfsl.samplers.task_sampler")

    class TaskSampler(module.TaskSampler):  # type: ignore[name-defined]
        """Version 1.5.0 passes `data_source` to torch's Sampler, which takes no argument any more."""

        def __init__(self, *args: Any) -> None:
            plain = Sampler.__init__
            Sampler.__init__ = _permissive  # type: ignore[method-assign,assignment]
            try:
                super().__init__(*args)
            finally:
                Sampler.__init__ = plain  # type: ignore[method-assign]

    while True:
        sampler = TaskSampler(dataset, way, shot, query, 1000)
        yield from DataLoader(dataset, batch_sampler=sampler, collate_fn=sampler.episodic_collate_fn)


def _permissive(self: Sampler[Any], data_source: object = None) -> None:
    """What torch's Sampler once was."""


def prototypical(backbone: Any) -> Any:
    """Its prototypical networks on a backbone.

    Raises:
        InputError: it is not installed.
    """
    return optional("easyfsl.methods").PrototypicalNetworks(backbone).eval()
