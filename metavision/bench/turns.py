"""`bench train` and `bench adapt`: what contenders compute is compared first, then they are timed in turns.

What is timed is process CPU time on one thread of a CPU, and time by the clock on several or on a GPU.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch

from metavision.bench import memory
from metavision.bench.contenders import OURS, TOLERANCE, What, chosen, differences
from metavision.bench.processes import ContenderFailed, Job, Process
from metavision.bench.work import Work
from metavision.engine.mapping import Mapper
from metavision.errors import MetavisionError

FIRST = "learn2learn"  # the peer that most know, to whose speed all are held
SAME_ALLOCATOR = f"{FIRST}, our allocator"  # how much of the difference is memory that is kept, which anyone can set
COMPARED = 2  # tasks whose gradients are compared: enough to see that it is their mean
MOST_ON_CPU = 8  # tasks at a time

Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How to measure.

    Args:
        what: `train`, a meta-gradient over tasks; or `adapt`, the answers to a new one.
        device: where.
        threads: of the CPU.
        rounds: turns of each contender.
        tasks: at a time; None: the work's own number on a GPU, at most 8 on a CPU.
    """

    what: What
    device: torch.device
    threads: int
    rounds: int
    tasks: int | None = None

    @property
    def clock(self) -> str:
        return "cpu" if self.device.type == "cpu" and self.threads == 1 else "wall"

    def count(self, work: Work) -> int:
        """Tasks at a time."""
        if self.what == "adapt":
            return 1
        return self.tasks or min(work.meta_batch, MOST_ON_CPU if self.device.type == "cpu" else work.meta_batch)

    def job(self, name: str, work: Work, mapper: Mapper) -> Job:
        peer = FIRST if name == SAME_ALLOCATOR else name
        door = name in (OURS, SAME_ALLOCATOR)
        return Job(peer, work, self.what, self.count(work), str(self.device), self.threads, door, mapper)


def rows(works: Sequence[Work], plan: Plan, ceiling: dict[str, float]) -> Iterator[Row]:
    """A row for each kind of work.

    Returns:
        work, tasks: what was done, and on how many at a time.
        mapping: of ours, in words.
        contenders: of each that was timed the median `seconds` of a call, `cpu` and `wall`; `peak`, bytes; of peers,
            too, the `difference` of their results from ours in double precision, and `ratio`: their seconds over ours,
            the median and the `quartiles` over rounds.
        missing: of the others why.
        flops, bytes: of our call, see `cost.counted`.
        reached: the fraction of the ceiling's FLOPs a second that ours reaches.
    """
    for work in works:
        yield _row(work, plan, ceiling)


def _row(work: Work, plan: Plan, ceiling: dict[str, float]) -> Row:
    mapper = chosen(work, plan.what, plan.count(work), plan.device)
    apart = differences(work, plan.what, min(COMPARED, plan.count(work)), plan.device, mapper)
    memory.give_back(plan.device)  # double precision took gigabytes, which contenders need now
    missing = {name: why for name, found in apart.items() if (why := _fault(found))}
    names = [OURS, *(name for name in apart if name not in missing)]
    if FIRST in names and plan.device.type == "cpu":
        names.append(SAME_ALLOCATOR)
    times, peaks, cost, failed = _timed({name: plan.job(name, work, mapper) for name in names}, plan.rounds)
    missing |= failed
    if OURS in failed:
        raise MetavisionError(f"{work.name}: {failed[OURS]}")
    seconds = {name: [turn[plan.clock] for turn in turns] for name, turns in times.items()}
    found: dict[str, Any] = {}
    for name, turns in times.items():
        medians = {clock: statistics.median(turn[clock] for turn in turns) for clock in ("cpu", "wall")}
        found[name] = {"seconds": statistics.median(seconds[name]), **medians, "peak": peaks[name]}
        if name != OURS:
            found[name]["difference"] = apart[FIRST if name == SAME_ALLOCATOR else name]
            found[name] |= _ratio(seconds[name], seconds[OURS])
    reached = cost["flops"] / found[OURS]["seconds"] / ceiling["flops"]
    return {
        "work": work.name,
        "tasks": plan.count(work),
        "mapping": str(mapper),
        "contenders": found,
        "missing": missing,
        **cost,
        "reached": reached,
    }


def _fault(found: float | str) -> str | None:
    """Why a peer is not timed."""
    if isinstance(found, str):
        return found
    return None if found <= TOLERANCE else f"its result differs by {found:.1g} of ours"


def _timed(
    jobs: Mapping[str, Job], rounds: int
) -> tuple[dict[str, list[dict[str, float]]], dict[str, int | None], dict[str, int], dict[str, str]]:
    """Every turn of each contender, its peak of memory, what ours costs, and who failed at which point."""
    times: dict[str, list[dict[str, float]]] = {}
    failed: dict[str, str] = {}
    with ExitStack() as open_:
        running = {name: open_.enter_context(Process(job)) for name, job in jobs.items()}

        def asked(question: str) -> Iterator[tuple[str, dict[str, Any]]]:
            """The answers of those that have not failed, one after another."""
            for name in [name for name in running if name not in failed]:
                try:
                    yield name, running[name].ask(question)
                except ContenderFailed as error:
                    failed[name] = str(error)

        list(asked("ready"))  # so that nobody is measured while others begin
        peaks = {name: answer["bytes"] for name, answer in asked("peak")}
        for _ in range(rounds):
            for name, answer in asked("go"):
                times.setdefault(name, []).append(answer)
        cost = {} if OURS in failed else running[OURS].ask("count")
    return {name: turns for name, turns in times.items() if name not in failed}, peaks, cost, failed


def _ratio(theirs: Sequence[float], ours: Sequence[float]) -> dict[str, Any]:
    each = [a / b for a, b in zip(theirs, ours, strict=True)]
    low, middle, high = statistics.quantiles(each, n=4, method="inclusive") if len(each) > 1 else each * 3
    return {"ratio": middle, "quartiles": [low, high]}
