"""Hydra at the service of a verb: composes, checks, and runs one job or many."""

import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from metavision import config
from metavision.cli import devices, process, results  # noqa: F401 - a worker begins here, before torch
from metavision.cli.guard import guarded
from metavision.console import note, stdout
from metavision.errors import InputError, first_line, no_option, not_installed, suggestion
from metavision.interruption import INTERRUPTED
from metavision.records import jobs
from metavision.records.jobs import Outcome
from metavision.records.run import Run
from metavision.sweeping.folder import Sweep

LAUNCHERS = {  # those that come with a package, and which
    "joblib": "hydra-joblib-launcher",
    "submitit_local": "hydra-submitit-launcher",
    "submitit_slurm": "hydra-submitit-launcher",
}


class Done(NamedTuple):
    """A finished job.

    Args:
        result: what it found.
        folder: where its record is.
        objective: what a search may go by: a figure of validation, never of the test.
    """

    result: Mapping[str, Any]
    folder: Path
    objective: float | None = None


Job = Callable[[DictConfig], Done]


@dataclass(frozen=True)
class Task:
    """What Hydra calls for each job, in this process or, pickled, in a worker's.

    Args:
        job: a function that workers can import.
        home: where the command was given, to which paths are relative.
        codes: exit codes of the jobs in this process.
    """

    job: Job
    home: str
    codes: list[int] = field(default_factory=list)

    def __call__(self, cfg: DictConfig) -> float | None:
        """The job's objective; None if it has none or failed, which must not end the others."""
        if Path.cwd() != Path(self.home):
            os.chdir(self.home)
        if self.home not in sys.path:  # a user's own module is found where the command is given
            sys.path.append(self.home)
        done: list[Done] = []
        errors: list[str] = []
        interruptions: list[KeyboardInterrupt] = []

        def work() -> int:
            try:
                with devices.joined(str(cfg.device.value)):
                    done.append(self.job(cfg))
            except KeyboardInterrupt as error:  # the command says so, once for all jobs
                errors.append(str(error) or "interrupted")
                interruptions.append(error)
                return getattr(error, "exit_code", INTERRUPTED)
            return 0

        code = guarded(work, errors.append)
        self.codes.append(code)
        hydra_cfg = HydraConfig.get()
        if Sweep.here:
            folder = str(done[0].folder.absolute()) if done else None
            jobs.write(
                Sweep.here, hydra_cfg.job.num, Outcome(list(hydra_cfg.overrides.task), folder, code, "".join(errors))
            )
        if interruptions:
            raise interruptions[0]
        return done[0].objective if done else None


def launch(verb: str, job: Job, words: list[str]) -> int:
    """Runs `job` once for every combination that the words ask for; the worst exit code is the command's.

    Several jobs end in one table of their results, and a list of those that failed.

    Raises:
        InputError: the words can't be composed into a configuration, or are many jobs for torchrun; nothing was run.
    """
    if devices.launched() and {"-m", "--multirun"} & set(words):
        raise InputError("torchrun would start every job several times; engine.devices=N is for each job of -m")
    config.register()
    task = Task(job, str(Path.cwd()))
    Sweep.here = None
    # Hydra reads the command line itself, and hides the causes of its errors unless told otherwise.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv = [f"metavision {verb}", *words]
    try:
        hydra.main(version_base="1.3", config_path=str(config.folder()), config_name=verb)(task)()
    except BrokenPipeError:  # of our output, not of a file
        raise
    except Exception as error:
        if config.of_composition(error):
            raise InputError(explain(error, verb, words)) from error
        if isinstance(error, OSError):
            raise InputError(f"{error.filename or 'the output folder'} can't be written: {error.strerror}") from error
        raise
    finally:
        outcomes: list[Outcome] = _close(Sweep.here) if Sweep.here else []
    return max((*task.codes, *(outcome.exit_code for outcome in outcomes)), default=0)


def _close(sweep: Path) -> list[Outcome]:
    """Prints what came of a sweep; a search has shown its own table, in which no test figure can mislead."""
    outcomes = jobs.read(sweep)
    if not outcomes:
        return []
    failed = [f"{' '.join(o.overrides)}: {o.error}" for o in outcomes if o.exit_code]
    done = [] if Sweep.searches else [outcome for outcome in outcomes if outcome.folder]
    found = [Run(Path(str(outcome.folder))).read("result.json") for outcome in done]
    results.overview(found, _varied([outcome.overrides for outcome in done]), failed)
    stdout.print(f"sweep: {sweep}", soft_wrap=True, markup=False)
    if len(done) > 1:
        _compare(sweep)
    return outcomes


def _varied(jobs: Sequence[Sequence[str]]) -> list[str]:
    """Of each job's overrides those that are not the same for all, nor seen in the name of its run."""
    common = set.intersection(*(set(words) for words in jobs)) if jobs else set()
    named = ("algo=", "data=", "seed=", "run=")
    return [" ".join(word for word in words if word not in common and not word.startswith(named)) for words in jobs]


def _compare(sweep: Path) -> None:
    """A page of the results, and how to have others of them; none where their metrics are different ones.

    Whatever goes wrong with it ends no sweep: the jobs are what was asked for.
    """
    from metavision.comparison.entries import found
    from metavision.comparison.groups import grouped
    from metavision.comparison.report import write
    from metavision.comparison.view import View

    try:
        entries = found([str(sweep)])
        if len({entry.metric for entry in entries}) > 1:
            return
        written = write(View(tuple(grouped(entries, [], None))).ranked(), sweep)
    except Exception as error:
        note(f"no page of this sweep: {type(error).__name__}: {error}")
        return
    again = f"metavision compare {shlex.quote(str(sweep))} by=algo"
    stdout.print(f"page: {written}\nby other groups: {again}", soft_wrap=True, markup=False)


def explain(error: Exception, verb: str, words: list[str]) -> str:
    """A composition error in one line, with what exists."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, option = error.missing_cfg_file.rpartition("/")
        if group == "hydra/launcher" and option in LAUNCHERS:
            return str(not_installed(f"{group}={option}", LAUNCHERS[option]))
        return f"there is no {group}={option}{suggestion(option, error.options)}"
    if match := re.search(r"Could not override '([^']+)'", str(error)):
        return unknown_key(match[1], verb, words)
    if not isinstance(error, HydraException | OmegaConfBaseException):  # a slip of Hydra's own, which names no word
        return f"{shlex.join(words)} can't be composed: {first_line(error)}"
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    lines = [line.strip() for line in str(cause).splitlines()]
    where = next((line.removeprefix("full_key: ") for line in lines if line.startswith("full_key: ")), "")
    return f"{where}: {first_line(cause)}" if where else first_line(cause)


def unknown_key(key: str, verb: str, words: list[str]) -> str:
    """What to say of an option that the configuration does not have."""
    parent, _, last = key.partition("@")[0].rpartition(".")
    groups = [
        path.name for path in config.folder().iterdir() if path.is_dir() and path.name not in config.HIDDEN_GROUPS
    ]
    choices = [word for word in words if word.partition("=")[0] in groups and "," not in word]
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(config.folder()), version_base="1.3"):
            composed = hydra.compose(verb, choices)
    except Exception as error:
        if not config.of_composition(error):
            raise
        # A choice sets what this verb has not.
        return f"metavision {verb} has no {key}, which one of {', '.join(choices)} sets"
    node = OmegaConf.select(composed, parent) if parent else composed
    known = {str(name) for name in node if not str(name).startswith("_")} if isinstance(node, DictConfig) else set()
    return no_option(parent or f"metavision {verb}", last, known)
