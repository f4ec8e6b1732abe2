"""Every file of `conf/` composes and binds, and the layers of the package keep their order.

Experiments are in `test_experiments.py`.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import metavision
from metavision import config
from metavision.problems.classification import Classification
from metavision.records.run import run_id
from metavision.tracking.base import curves
from tests.algorithms.builds import composed

FILES = sorted(
    f"{path.parent.name}={path.stem}"
    for path in config.folder().glob("*/*.yaml")
    if path.parent.name not in ("verb", "protocol", "rule", "experiment")
)
PROTOCOLS = sorted(path.stem for path in (config.folder() / "protocol").glob("*.yaml"))
FLOORS = [
    {"types", "trees", "seeds", "errors", "console", "drafts", "interruption"},
    {"functional", "problems", "nn", "records"},
    {"backbones", "rules", "data"},
    {"algorithms"},
    {"engine"},
    {"tracking", "comparison", "config"},
    {"sweeping"},
    {"build"},
    {"classify"},
    {"cli", "api"},
]


@pytest.mark.parametrize("choice", FILES)
def test_every_file_composes_and_binds(choice: str) -> None:
    needed = ["data.path=photos"] if choice == "data=folder" else []
    config.check(composed(choice, *needed))


def test_a_place_is_no_part_of_a_runs_identity_but_of_the_data_it_is() -> None:
    def identity(*overrides: str) -> str:
        return run_id(config.identity(composed(*overrides)))

    assert identity("data=cub", "data.root=a") == identity("data=cub", "data.root=b", "data.download=false")
    assert identity("data=mixture", "data.parts.cifarfs.root=a") == identity("data=mixture")
    assert identity("data=folder", "data.path=a") != identity("data=folder", "data.path=b")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_names_what_exists_and_is_applied(protocol: str) -> None:
    algo, data = protocol.split("-")
    protocolled = composed(f"algo={algo}", f"data={data}")
    config.check(protocolled)
    plain = composed(f"algo={algo}", f"data={data}", "~protocol")
    assert protocolled != plain


def test_a_runs_identity_is_what_decides_its_result() -> None:
    def identity(*overrides: str) -> str:
        return run_id(config.identity(composed(*overrides)))

    same = [
        "seed=1",
        "device=cpu",
        "outputs=x",
        "logger=none",
        "engine.threads=1",
        "engine.mapping=loop",
        "engine.mapping=graph",
        "engine.memory=2",
        "engine.channels_last=true",
        "engine.explicit=false",
        "engine.recompute=true",
        "budget.log_every=7",
        "data.size=null",
    ]
    assert all(identity(word) == identity() for word in same)
    other = ["algo=maml", "episode.shot=5", "budget.steps=7", "optimizer.lr=0.1", "norm=group", "engine.precision=bf16"]
    other += ["data.size=32", "augment=rotations", "scaling=standard", "episode.sizes=uniform", "episode.balance=2"]
    assert len({identity(), *map(identity, other)}) == 1 + len(other)


def test_imports_go_down_only() -> None:
    package = Path(metavision.__file__).parent
    floor = {name: level for level, names in enumerate(FLOORS) for name in names}
    for path in package.rglob("*.py"):
        here = path.relative_to(package).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("metavision"):
                continue
            there = (node.module or "").split(".")[1] if "." in (node.module or "") else node.names[0].name
            if here in floor and there in floor:
                assert floor[there] <= floor[here], f"{path.relative_to(package)} imports {there}"


def test_the_sweep_for_wandb_is_a_command_that_composes() -> None:
    sweep = yaml.safe_load((Path(__file__).parent.parent / "docs" / "wandb-sweep.yaml").read_text())
    program, verb, *words, parameters = sweep["command"]
    assert (program, verb, parameters) == ("${program}", "train", "${args_no_hyphens}")
    for name, parameter in sweep["parameters"].items():
        words += [f"{name}={parameter['values'][0] if 'values' in parameter else parameter['min']}"]
    config.check(composed(*words))
    row = {"step": 0, "split": "val", Classification.metric: 0.5}
    assert sweep["metric"] == {"name": next(iter(curves(row)[1])), "goal": "maximize"}


def test_help_names_a_users_own_files_and_not_all_of_very_many(tmp_path: Path) -> None:
    (tmp_path / "algo").mkdir()
    (tmp_path / "algo" / "mine.yaml").write_text("_target_: mine.Mine\n")
    command = [sys.executable, "-m", "metavision.cli", "train", "--config-dir", str(tmp_path), "--help"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (algos,) = (line for line in out.splitlines() if line.startswith("algo: "))
    assert " mine," in algos and " maml," in algos
    (experiments,) = (line for line in out.splitlines() if line.startswith("experiment:"))
    assert len(experiments) < 200 and "of them" in experiments
    assert "protocol:" not in out
