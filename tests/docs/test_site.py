"""Pages that are made of the sources say what the sources say."""

import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import hydra
import pytest
from omegaconf import OmegaConf

from metavision import config

SCRIPTS = Path(__file__).parents[2] / "scripts" / "docs"
FILES = [
    path
    for path in sorted(config.folder().glob("*/*.yaml"))
    if path.parent.name not in ("experiment", "protocol", "rule", "verb")
]
QUICK = {"algo/mamlpp", "algo/metacurvature", "augment/strong", "data/mixture", "schedule/warmup", "engine/learn2learn"}


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPTS)
    pytest.importorskip("griffe")
    yield import_module("options")
    for name in ("options", "files", "api", "commands"):
        sys.modules.pop(name, None)


def named(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize(
    "path",
    [path if named(path) in QUICK else pytest.param(path, marks=pytest.mark.slow) for path in FILES],
    ids=named,
)
def test_a_files_keys_are_those_that_hydra_composes(path: Path, generator: ModuleType) -> None:
    group = path.parent.name
    config.register()
    with hydra.initialize_config_dir(str(config.folder()), version_base="1.3"):
        node = hydra.compose("train", [f"{group}={path.stem}", "~protocol"])[group]
    hydras = dict(leaves(OmegaConf.to_container(node), ""))
    found = {
        key.removeprefix(f"{group}."): option
        for key, option in generator.composed(path).items()
        if "@package _global_" not in path.read_text() or key.startswith(f"{group}.")
    }
    assert found.keys() == hydras.keys()
    for key, option in found.items():
        if isinstance(hydras[key], str | int | float):
            assert OmegaConf.create(f"x: {option.default}")._get_node("x")._value() == hydras[key], key


def leaves(value: object, prefix: str) -> object:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, value


def test_every_key_has_a_meaning_and_each_file_its_heading(generator: ModuleType) -> None:
    pages = generator.pages()
    for path, text in pages.items():
        for line in text.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            assert len(cells) != 4 or cells[3], f"{path}: {line} says nothing"
    for path in FILES:
        assert f"\n## `{path.stem}`\n" in pages[f"options/{path.parent.name}.md"]
    assert (
        "| `engine.precision` | `fp32` | fp32 or tf32 or bf16 | fp32 / tf32 / bf16 (autocast) |"
        in pages["options/engine.md"]
    )


def test_the_api_has_signatures_arguments_and_literal_text(generator: ModuleType) -> None:
    api = import_module("api")
    pages = api.pages()
    assert "api/cli.md" not in pages and "{ #metavision.algorithms.maml.MAML }" in pages["api/algorithms.md"]
    assert "- `first_order`: treat the inner gradients as constants (FOMAML)." in pages["api/algorithms.md"]
    assert api.literal("a * b_c `d * e_f` <g> [h]") == r"a \* b\_c `d * e_f` \<g> \[h\]"
    private = [line for text in pages.values() for line in re.findall(r"(?m)^### (_\w+)", text)]
    assert not private
