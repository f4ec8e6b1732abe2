"""Every command on the pages is one that would run, and those below the mark are run."""

import argparse
import os
import re
from collections.abc import Iterator, Sequence
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override

from metavision import config
from metavision.cli import compare, completion, datasets
from metavision.cli.__main__ import VERBS, main
from metavision.cli.parser import Parser
from metavision.records.run import run_id
from tests.pages import Block, blocks, commands

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELL = ("source", "eval", "cat", "pip", "tar")  # whose words are others' to check
FOLLOWED = ROOT / "docs" / "add-an-algorithm.md"  # by test_pages
FOR_IMAGES = (ROOT / "README.md", ROOT / "docs" / "explain.md")  # whose Python wants a reader's images
NOT_RUN = (*FOR_IMAGES, FOLLOWED)
RUN_NAME = re.compile(r"outputs/(\w+)-(\w+)-[0-9a-f]{8}\b")
SHORT = {  # so that whatever is run is over at once
    "train": ["budget.steps=2", "budget.validation_episodes=2", "budget.test_episodes=4", "references=[]"],
    "evaluate": ["episodes=4"],
}
QUIET = {"train": ["logger=none", "engine.threads=1"], "evaluate": ["engine.threads=1"]}


def shown() -> Iterator[Any]:
    """Each command of each page once."""
    seen = set()
    for page in PAGES:
        for block in blocks(page):
            for words in commands(block.text) if not block.language else ():
                line = " ".join(words)
                if line not in seen and not (page == FOLLOWED and "--config-dir" in words):
                    seen.add(line)
                    yield pytest.param(words, id=f"{page.stem}: {line[:60]}")


@pytest.mark.parametrize("words", list(shown()))
def test_it_is_a_command_that_would_run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    while re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    program, *words = words
    if program == "make":
        assert all(re.search(rf"(?m)^{word}:", (ROOT / "Makefile").read_text()) for word in words)
    elif program == "python":
        assert (ROOT / words[0]).exists()
    elif program == "metavision":
        would_run(words[0], words[1:], monkeypatch)
    elif "metavision.cli" in words:  # started by another program, such as torchrun
        verb, *rest = words[words.index("metavision.cli") + 1 :]
        would_run(verb, rest, monkeypatch)
    else:
        assert program in SHELL


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train algo=mamll", "mamll"),
        ("train algo.step=3", "step"),
        ("train -m algo=maml,mamll", "mamll"),
        ("train seed=1,2", "-m"),
        ("train hydra/launcher=nowhere", "nowhere"),
        ("train episode.shot=few", "shot"),
        ("compare outputs bye=algo", "bye"),
        ("predict", "CLASSIFIER"),
        ("data show omniglott", "omniglott"),
        ("bench cook", "cook"),
    ],
)
def test_one_that_would_not_is_found(line: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    verb, *words = line.split()
    with pytest.raises(Exception, match=said):
        would_run(verb, words, monkeypatch)


def would_run(verb: str, words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Raises what the command would, without running it."""
    assert verb in VERBS
    if verb in ("train", "evaluate", "adapt"):
        list(composed(verb, words))
    elif verb == "completion":
        assert words[0] in completion.SHELLS
    else:
        parsed = parse(verb, words, monkeypatch)
        if verb == "compare":
            compare._told(parsed.words)
        elif verb == "data" and "name" in parsed:
            datasets.composed(parsed.name, parsed.options)


def composed(verb: str, words: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The checked configurations of all jobs, as far as each value is in one of them."""
    asked = [word for word in words if word not in ("-m", "--cfg", "job")]
    overrides = OverridesParser.create().parse_overrides(asked)
    assert "-m" in words or not any(o.is_sweep_override() for o in overrides), "several values need -m"
    config.register()
    with hydra.initialize_config_dir(str(config.folder()), version_base="1.3"):
        hydras = [o.input_line for o in overrides if o.key_or_group.startswith("hydra")]
        if hydras:
            hydra.compose(verb, hydras, return_hydra_config=True)
        values = [list(spelled(o)) for o in overrides if not o.key_or_group.startswith("hydra")]
        for job in zip_longest(*values) if values else [()]:
            chosen = [one or each[0] for one, each in zip(job, values, strict=True)]
            found = config.plain(hydra.compose(verb, chosen))
            config.check(found)
            yield found


def spelled(override: Override) -> Iterator[str]:
    """An override of a sweep, value by value."""
    if not override.is_sweep_override():
        yield override.input_line
    elif isinstance(interval := override.value(), IntervalSweep):
        yield f"{override.key_or_group}={interval.start}"
    else:
        for value in override.sweep_string_iterator():
            yield f"{override.get_key_element()}={value}"


class Parsed(Exception):
    """What a verb was about to do."""


def parse(verb: str, words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    """The arguments of a verb that has a parser of its own, which is stopped there."""
    parse_args = Parser.parse_args

    def stop(parser: Parser, words: Sequence[str]) -> None:
        raise Parsed(parse_args(parser, words))

    monkeypatch.setattr(Parser, "parse_args", stop)
    with pytest.raises(Parsed) as stopped:
        import_module(f"metavision.cli.{verb}").main(list(words))
    (parsed,) = stopped.value.args
    return parsed


MARKED = {page: [block for block in blocks(page) if block.runs] for page in PAGES}


@pytest.mark.parametrize("page", [page for page, found in MARKED.items() if found], ids=lambda page: page.stem)
def test_what_is_marked_runs(page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in MARKED[page]:
        text = RUN_NAME.sub(_made, block.text)  # short runs have other names
        if block.language == "python":
            exec(compile(text, str(page), "exec"), {})
        else:
            for program, verb, *words in commands(text):
                assert program == "metavision"
                assert main([verb, *words, *QUIET.get(verb, []), *SHORT.get(verb, [])]) == 0
    assert capsys.readouterr().out


def _made(name: re.Match[str]) -> str:
    (folder,) = Path("outputs").glob(f"{name[1]}-{name[2]}-*")
    return os.fspath(folder)


def test_the_tour_names_the_runs_that_its_commands_make() -> None:
    page = ROOT / "docs" / "tour.md"
    lines = [words for block in MARKED[page] if not block.language for words in commands(block.text)]
    configs = [found for _, verb, *words in lines if verb == "train" for found in composed(verb, words)]
    made = {run_id(config.identity(found)) for found in configs}
    pages = (page, page.with_name("index.md"))
    named = {name.group()[-8:] for one in pages for name in RUN_NAME.finditer(one.read_text())}
    assert named <= made


def test_python_is_run_or_named_as_not_run() -> None:
    def left(block: Block) -> bool:
        return block.language == "python" and not block.runs and block.page not in NOT_RUN

    assert not [block for page in PAGES for block in blocks(page) if left(block)]
