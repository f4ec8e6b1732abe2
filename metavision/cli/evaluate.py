"""`metavision evaluate`: score a run or a checkpoint on fixed episodes."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from metavision import config
from metavision.cli import devices, results
from metavision.cli.launch import Done, launch
from metavision.console import note
from metavision.records.provenance import code, git
from metavision.records.run import EVALUATIONS, Onlooker, Run, run_id


def main(words: list[str]) -> int:
    return launch("evaluate", job, words)


def job(cfg: DictConfig) -> Done:
    """One evaluation, recorded below the run as `evaluations/<id>`."""
    asked = config.plain(cfg)
    config.check(asked)
    from metavision.engine import checkpoint  # help must not wait for torch

    found = checkpoint.find(Path(asked["run"]))
    run = Run.of_checkpoint(found)
    home = run.folder if run else found.parent
    record, made_of = Run(home / EVALUATIONS / run_id(config.beside(asked))), _made_of(asked, found)

    def done() -> bool:
        return record.done and not asked["rerun"] and record.read("result.json").get("made_of") == made_of

    if devices.wanted(asked) and not done():
        devices.spread("evaluate", asked)
        return Done(record.read("result.json"), record.folder)
    with devices.by_first(record.locked(wait=True)):
        if devices.from_first(done):
            note("this evaluation is finished; rerun=true scores anew")
            result = record.read("result.json")
        else:
            from metavision.cli.evaluating import evaluated
            from metavision.engine import ranks

            writer = record if ranks.first() else Onlooker(record.folder)
            result = evaluated(asked, found, writer) | {"made_of": made_of, "git": git()}
            writer.write("result.json", result)
            writer.finish()
    results.show(result, record.folder)
    return Done(result, record.folder)


def _made_of(asked: Mapping[str, Any], path: Path) -> dict[str, str]:
    """What another evaluation of the same name would differ in: the weights, which may be trained on, and the code."""
    from metavision.engine import checkpoint

    weights = path if asked["checkpoint"] is None else checkpoint.find(Path(asked["checkpoint"]))
    digest = hashlib.blake2b(path.read_bytes() + weights.read_bytes(), digest_size=8).hexdigest()
    return {"weights": digest, "code": code()}
