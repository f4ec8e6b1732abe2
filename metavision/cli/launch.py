"""Hydra at the service of a verb: composes, checks, and runs one job or many."""

import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from metavision import config
from metavision.cli import results
from metavision.cli.guard import INTERRUPTED, guarded
from metavision.errors import InputError, suggestion

HIDDEN_GROUPS = ("verb", "protocol")  # chosen by other choices, not by the user


class Done(NamedTuple):
    """A finished job."""

    result: Mapping[str, Any]
    folder: Path


Job = Callable[[DictConfig], Done]


def launch(verb: str, job: Job, words: list[str]) -> int:
    """Runs `job` once for every combination that the words ask for; the worst exit code is the command's.

    Several jobs end in one table of their results, and a list of those that failed.

    Raises:
        InputError: the words can't be composed into a configuration; nothing was run.
    """
    config.register()
    codes: list[int] = []
    done: list[Done] = []
    failed: list[str] = []
    if str(Path.cwd()) not in sys.path:  # a user's own module is found where the command is given
        sys.path.append(str(Path.cwd()))

    def task(cfg: DictConfig) -> None:
        def one() -> int:
            done.append(job(cfg))
            return 0

        codes.append(guarded(one))  # one job's failure must not end the others
        if codes[-1]:
            failed.append(" ".join(HydraConfig.get().overrides.task))
        if codes[-1] == INTERRUPTED:
            raise KeyboardInterrupt

    # Hydra reads the command line itself, and hides the causes of its errors unless told otherwise.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv = [f"metavision {verb}", *words]
    try:
        with suppress(KeyboardInterrupt):  # the job has said so
            hydra.main(version_base="1.3", config_path=str(config.folder()), config_name=verb)(task)()
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(explain(error, verb, words)) from error
    except BrokenPipeError:  # of our output, not of a file
        raise
    except OSError as error:
        raise InputError(f"{error.filename or 'the output folder'} can't be written: {error.strerror}") from error
    if len(codes) > 1:
        results.overview(done, failed)
    return max(codes, default=0)


def explain(error: Exception, verb: str, words: list[str]) -> str:
    """A composition error in one line, with what exists."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return f"there is no {group}={option}{suggestion(option, error.options)}"
    if match := re.search(r"Could not override '([^']+)'", str(error)):
        return unknown_key(match[1], verb, words)
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    where = next((line.removeprefix("full_key: ") for line in lines if line.startswith("full_key: ")), "")
    return f"{where}: {lines[0]}" if where else lines[0]


def unknown_key(key: str, verb: str, words: list[str]) -> str:
    """What to say of an option that the configuration does not have."""
    parent, _, last = key.partition("@")[0].rpartition(".")
    groups = [path.name for path in config.folder().iterdir() if path.is_dir() and path.name not in HIDDEN_GROUPS]
    choices = [word for word in words if word.partition("=")[0] in groups and "," not in word]
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(config.folder()), version_base="1.3"):
            composed = hydra.compose(verb, choices)
    except (HydraException, OmegaConfBaseException):  # a choice sets what this verb has not
        return f"metavision {verb} has no {key}, which one of {', '.join(choices)} sets"
    node = OmegaConf.select(composed, parent) if parent else composed
    known = {str(name) for name in node} if isinstance(node, DictConfig) else set()
    return f"{parent or f'metavision {verb}'} has no option {last}{suggestion(last, known)}"
