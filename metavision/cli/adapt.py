"""`metavision adapt`: a folder of labelled images becomes a classifier; or a classifier gets other classes."""

from omegaconf import DictConfig

from metavision import config
from metavision.cli.launch import Done, launch
from metavision.errors import InputError


def main(words: list[str]) -> int:
    if {"-m", "--multirun"} & set(words):
        raise InputError("metavision adapt makes one classifier; for several, call it several times")
    return launch("adapt", job, words)


def job(cfg: DictConfig) -> Done:
    """One classifier, in one file."""
    asked = config.plain(cfg)
    config.check(asked)
    if not 0 <= asked["unknown"] < 1:
        raise InputError(f"unknown is {asked['unknown']}; it must be a share, from 0 to below 1")
    from metavision.cli.adapting import adapted  # help must not wait for torch

    return Done({}, adapted(asked))
