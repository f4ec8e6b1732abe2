"""Every file of `conf/experiment/` is what its name says, and runs by the command in its header."""

import re
import shlex
from collections.abc import Iterator
from functools import cache, reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import torch

from metavision import build, config
from metavision.engine import checkpoint
from metavision.engine.mapping import Mapper
from metavision.errors import InputError
from metavision.records.run import run_id
from tests.algorithms.builds import CLASSES, composed, food
from tests.conftest import toy_tasks

FOLDER = config.folder() / "experiment"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
NAME = re.compile(r"(?P<algo>\w+)-(?P<data>\w+)-(?P<way>\d+)w(?P<shot>\d+)s(?:-(?P<backbone>\w+))?")
USUAL = "conv4"  # the backbone that a name leaves out


@cache
def commands(name: str) -> list[tuple[str, ...]]:
    """The words behind `metavision train` of the header's commands."""
    header = re.sub(r"\\\n# *", "", (FOLDER / f"{name}.yaml").read_text())
    return [tuple(shlex.split(line)) for line in re.findall(r"^# metavision train (.*)$", header, re.MULTILINE)]


@cache
def settings(*words: str) -> dict[str, Any]:
    return composed(*words)


@pytest.mark.parametrize("name", NAMES)
def test_its_name_says_what_it_is(name: str) -> None:
    said = NAME.fullmatch(name)
    assert said
    *_, command = commands(name)
    assert command[:2] == (f"experiment={name}", "budget=full")
    found, plain = settings(*command), settings(f"algo={said['algo']}", f"data={said['data']}")
    config.check(found)
    assert found["algo"]["_target_"] == plain["algo"]["_target_"]
    assert {**found["data"], "split": None} == {**plain["data"], "split": None}  # a paper's own is of the same images
    assert (found["episode"]["way"], found["episode"]["shot"]) == (int(said["way"]), int(said["shot"]))
    assert found["backbone"]["_target_"].split(".")[-2] == (said["backbone"] or USUAL)


@pytest.mark.parametrize("name", NAMES)
def test_it_has_the_papers_figure(name: str) -> None:
    paper = settings(*commands(name)[-1])["paper"]
    assert 0 < paper["accuracy"] < 100
    assert paper["half_width"] is None or 0 < paper["half_width"] < 10
    assert paper["source"] and paper["link"].startswith("https://")


FINN = {  # Model-Agnostic Meta-Learning (Finn et al., 2017), A.1: inner rate, steps, test steps, tasks a step
    "maml-omniglot-5w1s": (0.4, 1, 3, 32),
    "maml-omniglot-5w5s": (0.4, 1, 3, 32),
    "maml-miniimagenet-5w1s": (0.01, 5, 10, 4),
    "maml-miniimagenet-5w5s": (0.01, 5, 10, 2),
}


@pytest.mark.parametrize("name", FINN)
def test_maml_has_the_papers_settings(name: str) -> None:
    found = settings(*commands(name)[-1])
    algo, episode, backbone = found["algo"], found["episode"], found["backbone"]
    assert (algo["rule"]["lr"], algo["steps"], algo["test_steps"], episode["meta_batch"]) == FINN[name]
    assert (found["budget"]["steps"], found["optimizer"]["lr"], found["norm"]) == (60_000, 0.001, "batch")
    assert not algo["first_order"] and found["optimizer"]["_target_"] == "torch.optim.Adam"
    omniglot = "omniglot" in name
    network = (backbone["filters"], backbone["downsample"], backbone["average"])
    assert network == ((64, "stride", True) if omniglot else (32, "pool", False))
    # As many queries as shots on Omniglot; 15 in training on mini-ImageNet, where the paper tests with as many.
    assert episode["train"]["query"] == (episode["shot"] if omniglot else 15) and episode["query"] == episode["shot"]


LESS = {"episode.meta_batch", "episode.train.query"}  # what a short run may have less of


@pytest.mark.parametrize("name", [name for name in NAMES if "short: " in (FOLDER / f"{name}.yaml").read_text()])
def test_the_short_budget_is_the_same_but_for_less_of_it(name: str) -> None:
    full = settings(*commands(name)[-1])
    short = settings(*(word.replace("budget=full", "budget=short") for word in commands(name)[-1]))
    assert short["budget"]["steps"] <= full["budget"]["steps"] / 3 and short["budget"]["cooldown"] == 0.5
    changed = set(unequal(full, short))
    assert {path for path in changed if not path.startswith("budget.")} <= LESS
    for path in changed & LESS:
        a, b = (reduce(getitem, path.split("."), found) for found in (full, short))
        assert 0 < b < a


def unequal(a: dict[str, Any], b: dict[str, Any], path: str = "") -> Iterator[str]:
    """Paths at which two configurations of the same keys differ."""
    assert a.keys() == b.keys()
    for key, value in a.items():
        if isinstance(value, dict) and isinstance(b[key], dict):
            yield from unequal(value, b[key], f"{path}{key}.")
        elif value != b[key]:
            yield f"{path}{key}"


@pytest.mark.parametrize("name", [name for name in NAMES if len(commands(name)) > 1])
def test_its_first_stage_has_the_same_backbone(name: str) -> None:
    first, second = (settings(*words) for words in commands(name))
    config.check(first)
    for key in ("backbone", "data", "scaling", "norm"):
        assert first[key] == second[key]
    with pytest.raises(InputError, match="there is nothing at RUN-OF-THE-FIRST-STAGE"):
        checkpoint.find(Path(settings(f"experiment={name}")["init"]))


@pytest.mark.parametrize("name", NAMES)
def test_it_takes_a_step(name: str) -> None:
    found = settings(*commands(name)[-1])
    way = found["episode"]["train"]["way"]
    learner = build.algorithm(found, (1, 16, 16), way, CLASSES)
    before = learner.init(torch.Generator().manual_seed(0))
    tasks = food(learner, toy_tasks(tasks=1, way=way, shot=1, query=1))
    grads, logs = learner.meta_grad(before, tasks, Mapper("loop"))
    assert logs["loss"].isfinite()
    weights = {key: p.clone() for key, p in before.params.items()}
    optimizer = build.optimizer(found)(list(weights.values()))
    optimizer.param_groups[0]["lr"] *= build.schedule(found)(0, found["budget"]["steps"])
    for key, p in weights.items():
        p.grad = grads[key].detach()
    optimizer.step()
    assert all(p.isfinite().all() for p in weights.values())
    assert any(not torch.equal(p, before.params[key]) for key, p in weights.items())


def test_the_papers_figure_is_no_part_of_a_runs_identity() -> None:
    def identity(*words: str) -> str:
        return run_id(config.identity(composed("experiment=protonet-omniglot-5w1s", *words)))

    assert identity() == identity("paper=null") == identity("paper.accuracy=1", "paper.verified=false")
    assert identity() == run_id(config.identity(composed("algo=protonet", "data=omniglot")))
