"""Ours and the peers at one kind of work, as functions that can be compared and timed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch

from metavision import trees
from metavision.algorithms.base import Algorithm
from metavision.bench.peers.base import Peer
from metavision.bench.peers.easyfsl import EasyFSL
from metavision.bench.peers.higher import Higher
from metavision.bench.peers.learn2learn import Learn2Learn
from metavision.bench.peers.network import Network
from metavision.bench.peers.torchopt import TorchOpt
from metavision.bench.work import Work
from metavision.engine.device import wait
from metavision.engine.fitting import Wanted, candidates, fitted
from metavision.engine.mapping import Mapper
from metavision.engine.tuning import timed
from metavision.errors import InputError
from metavision.types import Episode, Meta, P

What = Literal["train", "adapt"]
Call = Callable[[], P]

OURS = "metavision"
PEERS: dict[str, type[Peer]] = {
    "learn2learn": Learn2Learn,
    "higher": Higher,
    "TorchOpt": TorchOpt,
    "easyfsl": EasyFSL,
}
TOLERANCE = 1e-6  # in double precision; sums in another order differ by 1e-10 and less


def contenders(work: Work, what: What) -> list[str]:
    """Who has a method for this work, installed or not."""
    return [OURS, *(name for name, peer in PEERS.items() if peer.has(work, train=what == "train"))]


def call(
    name: str,
    work: Work,
    what: What,
    n: int,
    device: torch.device,
    dtype: torch.dtype,
    mapper: Mapper | None = None,
) -> Call:
    """What a contender does over and over.

    Args:
        name: of the contender.
        work: what is done.
        what: `train`: the mean meta-gradient over n tasks, by the names of our parameters; `adapt`: the logits of one
            new task's queries, as a tree of one tensor.
        n: tasks.
        device: where it is done.
        dtype: in which precision.
        mapper: by which ours maps over tasks; None: one after another.

    Raises:
        InputError: the peer is not installed.
    """
    algorithm, meta, tasks = _begun(work, what, n, device, dtype)
    if name == OURS:
        return _ours(algorithm, meta, tasks, what, mapper or Mapper())
    peer = PEERS[name](work, Network(work, meta, device, dtype))
    if what == "train":
        return lambda: peer.meta_grad(tasks)
    return lambda: {"logits": peer.answers(trees.index(tasks, 0))}


def _begun(work: Work, what: What, n: int, device: torch.device, dtype: torch.dtype) -> tuple[Algorithm, Meta, Episode]:
    algorithm, meta, tasks = work.algorithm(), work.start(device, dtype), work.tasks(n, device, dtype)
    if what == "adapt":
        algorithm = algorithm.for_evaluation()
        meta = algorithm.calibrate(meta, tasks.support.x.flatten(0, 1))
    return algorithm, meta, tasks


def _ours(algorithm: Algorithm, meta: Meta, tasks: Episode, what: What, mapper: Mapper) -> Call:
    if what == "train":
        return lambda: mapper.meta_grad(algorithm, meta, tasks)[0]

    def solve(params: P, episode: Any) -> torch.Tensor:
        return algorithm.solve(Meta(params, meta.buffers), episode)

    def answers() -> P:
        with torch.no_grad():
            return {"logits": mapper.map(solve, meta.params, trees.index(tasks, slice(0, 1)))[0]}

    return answers


def chosen(work: Work, what: What, n: int, device: torch.device) -> Mapper:
    """Ours, of this work in float32, with the settings of `conf/engine/native.yaml`."""
    algorithm, meta, tasks = _begun(work, what, n, device, torch.float32)
    if what == "train":
        return of_a_step(algorithm, meta, tasks, Wanted(recompute=work.recompute))
    return fitted(algorithm, meta, trees.index(tasks, slice(0, 1)), Wanted(), train=False)


def of_a_step(algorithm: Algorithm, meta: Meta, tasks: Episode, wanted: Wanted) -> Mapper:
    """That of a training step: on a CPU by the engine's rule; on a GPU, as in a run of many steps, the one that is
    measured to be the fastest."""
    one = trees.index(tasks, slice(0, 1))
    device = tasks.support.x.device
    if device.type == "cpu":
        return fitted(algorithm, meta, one, wanted, train=True)

    def step(by: Mapper) -> None:
        by.meta_grad(algorithm, meta, tasks)
        wait(device)

    seconds = timed(candidates(algorithm, meta, one, wanted), step)
    return replace(min(seconds, key=lambda mapper: seconds[mapper]))  # without what it has recorded


def differences(work: Work, what: What, n: int, device: torch.device, mapper: Mapper) -> dict[str, float | str]:
    """How far each peer is from ours in double precision, relative to ours; or why it can't be known.

    A parameter that only peers have, such as offsets before a norm, must not matter: its gradient counts, too.
    """
    ours = call(OURS, work, what, n, device, torch.float64, mapper)()
    found: dict[str, float | str] = {}
    for name in contenders(work, what)[1:]:
        try:
            found[name] = distance(call(name, work, what, n, device, torch.float64)(), ours)
        except InputError as error:
            found[name] = str(error)
        except Exception as error:  # of a foreign package: the others are measured all the same
            found[name] = f"{name} failed: {type(error).__name__}: {error}"
    return found


def distance(theirs: P, ours: P) -> float:
    """|theirs - ours| / |ours| over all numbers of two trees; what one of them has not is zero."""
    names = theirs.keys() | ours.keys()
    zero = torch.zeros((), dtype=torch.float64)
    apart = {name: theirs.get(name, zero) - ours.get(name, zero) for name in names}
    return float(trees.norm(apart) / trees.norm(ours))
