"""`python -m metavision.bench.child JOB`: a contender's process, which answers in lines of JSON until its input ends.

| asked   | answer |
|---------|--------|
| `ready` | nothing, once all is imported and made |
| `go`    | `cpu` and `wall`: seconds of a call, the mean of as many as take a quarter of a second |
| `peak`  | `bytes`: by which a call's peak exceeds what is held without it; asked first, before anything is kept |
| `count` | `flops` of a call's products and convolutions, `bytes` of the tensors that it makes |
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from queue import SimpleQueue
from threading import Thread
from typing import Any

TURN = 0.25  # seconds at least, so that what is short is not lost in the machine's noise


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a package prints is no answer

    questions: SimpleQueue[str] = SimpleQueue()
    Thread(target=_listen, args=[questions], daemon=True).start()

    def answer(**found: Any) -> None:
        answers.write(json.dumps(found) + "\n")
        answers.flush()

    try:
        handlers = _prepared(sys.argv[1])
        while True:
            answer(**handlers[questions.get()]())
    except Exception as error:  # of any kind, and of foreign packages: whoever asks reports it
        answer(error=f"{type(error).__name__}: {error}")
        os._exit(1)  # not through Python's own end, which waits for who listens


def _listen(questions: SimpleQueue[str]) -> None:
    """Hands over what is asked; once nobody can ask any more, ends the process at once, whatever it is at."""
    for question in sys.stdin:
        questions.put(question.strip())
    os._exit(0)


def _prepared(job_text: str) -> dict[str, Callable[[], dict[str, Any]]]:
    if json.loads(job_text)["door"]:
        import_module("metavision.cli.process")  # before torch
    import torch

    from metavision.bench import contenders, cost, memory
    from metavision.bench.processes import Job
    from metavision.bench.work import Work
    from metavision.engine import device
    from metavision.engine.mapping import Mapper

    job = Job.read(job_text)
    device.configure("fp32", deterministic=False, threads=job.threads)
    place = torch.device(job.device)

    def prepared(work: Work, mapper: Mapper) -> contenders.Call:
        return contenders.call(job.contender, work, job.what, job.tasks, place, torch.float32, mapper)

    prepared(job.work.tiny(), job.mapper)()
    call = prepared(job.work, job.mapper)

    def go() -> dict[str, Any]:
        wall, cpu, calls, taken = time.perf_counter(), time.process_time(), 0, 0.0
        while taken < TURN:
            call()
            device.wait(place)
            calls, taken = calls + 1, time.perf_counter() - wall
        return {"cpu": (time.process_time() - cpu) / calls, "wall": taken / calls}

    def count() -> dict[str, Any]:
        graph = job.mapper.strategy == "graph"  # of a replay nothing is seen
        return cost.counted(prepared(job.work, replace(job.mapper, strategy="vmap")) if graph else call)

    return {
        "ready": dict,
        "go": go,
        "peak": lambda: {"bytes": memory.growth(call, place)},
        "count": count,
    }


if __name__ == "__main__":
    main()
