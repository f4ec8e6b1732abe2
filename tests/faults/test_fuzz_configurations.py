"""Override lists of all sorts end in a plan that can be run, or in one line: never in a traceback, never in a hang."""

import copy
import functools
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import hydra
import pytest
import torch
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hypothesis import given
from hypothesis import strategies as st

from metavision import build, config
from metavision.cli import guard, training
from metavision.cli.launch import explain
from metavision.data import pack
from metavision.engine.mapping import Mapper
from metavision.errors import InputError
from tests.faults.fuzzing import bounded, fuzzing
from tests.faults.world import photos

GROUPS = {
    path.name: sorted(file.stem for file in path.glob("*.yaml"))
    for path in config.folder().iterdir()
    if path.is_dir() and path.name not in ("verb", "protocol")
}
NUMBERS = ["-9223372036854775809", "-1", "0", "1", "2", "3", "7", "64", "2147483648", "1000000000000", "1e30"]
NUMBERS += ["0.5", "-0.0", "1e-300", "1e300", "nan", "inf", "-inf", "0x10", "1_000", "007"]
WORDS = ["", "null", "true", "False", "x", "é", "../..", "'a b'", "???", "${nope}", "${seed}", "${oc.env:NOPE}", "${"]
WORDS += [
    "[1,2]",
    "[]",
    "[x,[1]]",
    "{a:1}",
    "{}",
    "{_target_:nope}",
    "{_target_:5}",
    "[",
    "}",
    "'",
    '"',
    "\\",
    "=",
    "a=b",
    "\n",
]
WORDS += [
    "x" * 5000,
    "~",
    "*",
    "range(3)",
    "1,2",
    "choice(1,2)",
    "glob(*)",
    "torch.nn.ReLU",
    "metavision.types.Meta",
]
TARGETS = [
    "nope",
    "",
    "5",
    "torch.nn.Nope",
    "metavision.algorithms.maml.MAML",
    "metavision.config.Train",
    "a..b",
    "os.sep",
]


@functools.cache
def keys() -> list[str]:
    """Of the configurations of some algorithms, with what they hold and what groups they are of."""
    found = set(GROUPS)
    for words in (["algo=maml", "augment=standard"], ["algo=rfs", "optimizer=sgd"], ["algo=finetune", "schedule=step"]):
        found |= set(_paths(config.composed("train", words), ""))
    return sorted(found)


@functools.cache
def numbers() -> list[str]:
    """Keys whose value is a number, or may be one."""
    plain = config.composed("train", ["algo=maml", "augment=standard"])
    return [key for key in keys() if isinstance(_at(plain, key), int | float | None) and key not in GROUPS]


def _at(node: Any, path: str) -> Any:
    for key in path.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    return node


def _paths(node: Any, path: str) -> Iterator[str]:
    for key, value in node.items():
        here = f"{path}.{key}" if path else key
        yield here
        if isinstance(value, dict):
            yield from _paths(value, here)


def overrides() -> st.SearchStrategy[list[str]]:
    value = st.one_of(st.sampled_from(NUMBERS), st.sampled_from(WORDS), st.text(max_size=8), st.integers().map(str))
    key = st.one_of(
        st.sampled_from(keys()),
        st.sampled_from(keys()),
        st.tuples(st.sampled_from(keys()), st.sampled_from(["x", ".x", "@x", "_", "."])).map("".join),
        st.text(max_size=8),
    )
    prefix = st.sampled_from(["", "", "", "", "+", "++", "~"])
    any_ = st.tuples(prefix, key, st.just("="), value).map("".join)
    choice = st.sampled_from(sorted(GROUPS)).flatmap(lambda g: st.sampled_from(GROUPS[g]).map(lambda f: f"{g}={f}"))
    target = st.tuples(st.sampled_from([key for key in keys() if key.endswith("._target_")]), st.sampled_from(TARGETS))
    number = st.tuples(st.sampled_from(numbers()), st.one_of(st.sampled_from(NUMBERS), st.integers(0, 9).map(str)))
    likely = st.one_of(choice, number.map("=".join))
    word = st.one_of(likely, likely, any_, any_, target.map("=".join), st.text(max_size=20))
    return st.one_of(st.lists(likely, max_size=3), st.lists(word, max_size=4))


def planned(words: list[str]) -> int:
    """What `metavision train` does up to the first step."""
    try:
        with hydra.initialize_config_dir(str(config.folder()), version_base="1.3"):
            composed = hydra.compose("train", words)
    except Exception as error:
        if not config.of_composition(error):
            raise
        raise InputError(explain(error, "train", words)) from error
    resolved = config.plain(composed)
    config.check(resolved)
    training.plan_of(resolved, build.dataset(resolved), torch.device("cpu"))
    build.tracker(resolved)
    return 0


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read once, no time is spent on choosing a mapper or on drawing glyphs, and nothing is fetched."""
    config.register()
    load, make = FileConfigSource.load_config, pack._make

    @functools.cache
    def once(path: str, name: str) -> Any:
        return load(FileConfigSource("cached", f"file://{path}"), name)

    def loaded(source: FileConfigSource, config_path: str) -> Any:
        return copy.deepcopy(replace(once(source.path, config_path), provider=source.provider))

    def made(folder: Path, listing: Any, decoder: Any, about: dict[str, Any], **more: Any) -> None:
        if about["name"] == "glyphs" or decoder.size > 64:
            raise InputError("there is no room")
        make(folder, listing, decoder, about, **more)

    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    def raised(**_: object) -> None:
        raise sys.exc_info()[1] or AssertionError

    monkeypatch.setattr(FileConfigSource, "load_config", loaded)
    monkeypatch.setattr(pack, "_make", made)
    monkeypatch.setattr(build, "train_mapper", lambda *_: Mapper())
    monkeypatch.setattr("urllib.request.urlopen", offline)
    monkeypatch.setattr("metavision.console.stderr.print_exception", raised)


@pytest.mark.parametrize(
    "many",
    [20, pytest.param(int(os.environ.get("FUZZ", "10000")), marks=[pytest.mark.slow, pytest.mark.timeout(6 * 3600)])],
)
@pytest.mark.usefixtures("quick")
@pytest.mark.filterwarnings("ignore")
def test_override_lists(many: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["data=folder", f"data.path={photos(tmp_path / 'photos')}", "data.size=16", "episode.query=2"]
    ended: Counter[str] = Counter()

    @fuzzing(many)
    @given(overrides())
    def one(words: list[str]) -> None:
        with bounded():
            here = [] if any(word.startswith("data=") for word in words) else own
            code = guard.guarded(lambda: planned([*here, *words]))
        error = capsys.readouterr().err
        lines = [line for line in error.splitlines() if line.startswith("metavision: error: ")]
        assert len(lines) == (code != 0) and code in (0, 2), error
        ended["a plan" if not code else "a line"] += 1

    one()
    with capsys.disabled():
        print(f"\n{ended.total()} override lists: {json.dumps(ended)}")
    assert ended.total() >= many


def test_a_traceback_would_be_noticed(quick: None) -> None:
    def faulty() -> int:
        raise KeyError("nope")

    work: Callable[[], int] = faulty
    with pytest.raises(KeyError):
        guard.guarded(work)
