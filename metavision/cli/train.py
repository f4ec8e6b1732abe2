"""`metavision train`: meta-train, select on validation, test once."""

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from metavision import config
from metavision.cli import devices
from metavision.cli.launch import Done, launch
from metavision.cli.results import show_finished
from metavision.console import note
from metavision.records.run import Run, run_id
from metavision.records.selection import validation


def main(words: list[str]) -> int:
    return launch("train", job, words)


def job(cfg: DictConfig) -> Done:
    """One run: shows its result if it is finished, goes on with it if it is not."""
    resolved = config.plain(cfg)
    config.check(resolved)
    run = Run(folder(resolved))
    if devices.wanted(resolved) and (resolved["rerun"] or not run.done):
        devices.spread("train", resolved)
        return Done(run.read("result.json"), run.folder, objective(run))
    with devices.by_first(run.locked(wait=resolved["wait"])):
        if devices.from_first(lambda: run.done) and not resolved["rerun"]:
            note("this run is finished; rerun=true runs it afresh")
            if begun := run.read("provenance.json").get("began_from"):
                from metavision.cli.ancestry import changed  # as below, but for the few that began from another

                for line in changed(resolved, begun):
                    note(line)
            return Done(show_finished(run), run.folder, objective(run))
        from metavision.cli.training import run_to_the_end  # torch is not needed to show a result

        result = run_to_the_end(resolved, list(HydraConfig.get().overrides.task), run)
        return Done(result, run.folder, devices.from_first(lambda: objective(run)))


def objective(run: Run) -> float:
    """The metric of the selected checkpoint on the validation classes."""
    result = run.read("result.json")
    return validation(run.metrics(), result["metric"], result["step"])


def folder(resolved: dict[str, Any]) -> Path:
    """`outputs/<algo>-<data>-<id>/seed<k>`."""
    choices = HydraConfig.get().runtime.choices
    name = f"{choices['algo']}-{choices['data']}-{run_id(config.identity(resolved))}"
    return Path(resolved["outputs"]) / name / f"seed{resolved['seed']}"
