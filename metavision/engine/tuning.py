"""Which mapper is the fastest: measured on real tasks, and kept on disk for the next run of the same set-up."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from metavision.console import note
from metavision.data.pack import cache_folder
from metavision.engine.mapping import Mapper
from metavision.errors import InputError

ROUNDS = 5
SECONDS = 20.0  # after which no further round begins
HOPELESS = 1.5  # times as slow as the fastest: not measured again

Clock = Callable[[], float]
Step = Callable[[Mapper], object]  # a training step by a mapper, awaited


def tuned(
    setup: Mapping[str, Any], candidates: Callable[[], Sequence[Mapper]], step: Step, clock: Clock = time.perf_counter
) -> Mapper:
    """The fastest mapper of a training step, and a line on stderr about it.

    Args:
        setup: JSON, all that the answer depends on; under it the answer is kept.
        candidates: that are compared.
        step: what is timed; its random numbers are drawn aside.
        clock: in seconds.
    """
    path = _path(setup)
    if (known := _known(path)) is not None:
        note(f"engine: {known}, which was the fastest when this set-up was measured; {path}")
        return known
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        seconds = _measured(candidates(), step, clock)
    fastest = min(seconds, key=lambda mapper: seconds[mapper])
    figures = "; ".join(f"{mapper} {1e3 * taken:.0f} ms" for mapper, taken in seconds.items())
    note(f"engine: {fastest}, the fastest; a step takes by {figures}")
    named = {str(mapper): taken for mapper, taken in seconds.items()}
    _keep(path, {"setup": setup, "seconds": named, "fastest": asdict(fastest)})
    return fastest


def _measured(candidates: Sequence[Mapper], step: Step, clock: Clock) -> dict[Mapper, float]:
    """Least seconds of a step by each mapper, over rounds in which they take turns, after one to warm up.

    The least, since what else runs on a machine can only add to it. One that is far behind falls out.
    """
    begun = clock()
    running = [mapper for mapper in candidates if _runs(step, mapper)] or [candidates[0]]  # which then says why
    seconds: dict[Mapper, float] = {}
    for done in range(ROUNDS):
        if done and clock() - begun > SECONDS:
            break
        for mapper in running:
            before = clock()
            step(mapper)
            seconds[mapper] = min(seconds.get(mapper, float("inf")), clock() - before)
        least = min(seconds.values())
        running = [mapper for mapper in running if seconds[mapper] <= HOPELESS * least]
    return seconds


def _runs(step: Step, mapper: Mapper) -> bool:
    try:
        step(mapper)
    except (torch.OutOfMemoryError, InputError):  # the second: of a graph that can't be captured
        return False
    return True


def _path(setup: Mapping[str, Any]) -> Path:
    text = json.dumps(setup, sort_keys=True, default=str)
    return cache_folder() / "engine" / f"{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}.json"


def _known(path: Path) -> Mapper | None:
    with suppress(OSError, ValueError, KeyError, TypeError):  # none, or damaged: measured again
        return Mapper(**json.loads(path.read_text(encoding="utf-8"))["fastest"])
    return None


def _keep(path: Path, found: Mapping[str, Any]) -> None:
    draft = path.with_suffix(f".{os.getpid()}")
    with suppress(OSError):  # a cache that can only be read is as good
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(found, indent=1, default=str), encoding="utf-8")
        draft.replace(path)
