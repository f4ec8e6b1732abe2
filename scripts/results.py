"""Writes RESULTS.md: the experiments of conf/experiment, each with the runs of it that benchmarks/runs holds.

A stored run belongs to an experiment if it has its algorithm, data set, way, shot and kind of backbone. Its budget is
told beside its figure, and so is every other setting in which it differs.

--pending prints the experiments without a run of the full budget instead, those of most use first.
"""

import inspect
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, Self

import hydra
import numpy as np
import yaml

from metavision import config
from metavision.cli.guard import guarded
from metavision.cli.parser import Parser
from metavision.errors import InputError
from metavision.records.run import Run
from metavision.records.statistics import Estimate, estimate, figure

ROOT = Path(__file__).parent.parent
EXPERIMENTS, RUNS, PAGE = ROOT / "conf" / "experiment", ROOT / "benchmarks" / "runs", ROOT / "RESULTS.md"

TITLES = {"omniglot": "Omniglot", "cifarfs": "CIFAR-FS", "fc100": "FC100", "miniimagenet": "mini-ImageNet"}
NAME = re.compile(r"(?P<algo>\w+)-(?P<data>\w+)-(?P<way>\d+)w(?P<shot>\d+)s(?:-(?P<backbone>\w+))?")
USUAL = "conv4"  # the backbone that a name leaves out
NONE = "no run yet"
SHORT = 8  # digits of a hash
HEAD = f"""# Results

Written by `make results` from `conf/experiment` (a file for each published number) and `benchmarks/runs` (where
`scripts/store.py RUN` keeps a finished run). Figures are accuracies in %, on test classes.

- **paper**: as its source prints it; what stands behind its ± differs between papers. † is said from memory, not read
  in print.
- **ours**: ± is half a 95 % interval over what follows: over the test episodes of one training run, which says nothing
  of another training run, or over training seeds. Below it stands how far it is from a figure that was read in print,
  in points. "{NONE}": the command has not been run.
- **untrained, pixels**: the same network untrained, and nearest centroid on pixels, on the same episodes.
- **tested**: the hash is that of the test images. With `batch` normalisation the queries of an episode help each other
  (transductive).
- **trained**: `short` is a fraction of the paper's steps, as many as a CPU does in some tens of minutes, some with
  fewer tasks or queries in each, and cools down over the last half of them unless it says otherwise; what it misses of
  a figure says nothing against the method. `strict` is from the data set's training classes alone, `external` from
  others, too.
- **by `metavision evaluate …`**: the same weights on the same test episodes, evaluated otherwise. **other settings**:
  where the run is not the experiment's own, which is the command in its file.
"""
COLUMNS = ("experiment", "backbone", "paper", "ours", "untrained, pixels", "tested", "trained", "command")


class Key(NamedTuple):
    """What a figure is of, in the order of the page."""

    data: str
    way: int
    shot: int
    backbone: str  # the module of its class
    algo: str


@dataclass(frozen=True)
class Experiment:
    """A file of conf/experiment."""

    path: Path
    key: Key
    paper: Mapping[str, str]  # as written: a figure keeps its zeros
    staged: bool  # whether it starts from another run

    @classmethod
    def read(cls, path: Path) -> Self:
        """By its name and its text.

        Raises:
            InputError: its name does not say what it is, or it has no figure.
        """
        words = yaml.load(path.read_text(), Loader=yaml.BaseLoader)  # noqa: S506 - which makes strings of everything
        if (said := NAME.fullmatch(path.stem)) is None or "paper" not in words:
            raise InputError(f"{path.name} must be named <algo>-<data>-<way>w<shot>s[-<backbone>] and have a paper:")
        key = Key(said["data"], int(said["way"]), int(said["shot"]), said["backbone"] or USUAL, said["algo"])
        return cls(path, key, words["paper"], "init" in words)

    @property
    def command(self) -> str:
        return f"metavision train experiment={self.path.stem} budget=full{' init=RUN' * self.staged}"

    def config(self, budget: str) -> dict[str, Any]:
        """Its resolved configuration."""
        return composed(self.path.stem, budget)

    def figure(self) -> str:
        """The paper's, with its source."""
        paper = self.paper
        text = paper["accuracy"] + (f" ± {paper['half_width']}" if "half_width" in paper else "")
        text += " †" * (paper.get("verified") == "false")
        authors = re.search(r"\(([^()]+)\)$", paper["source"])
        source = f"[{authors[1] if authors else paper['source']}]({paper['link']})"
        return f"{text}<br>{source}" + (f"<br>{paper['note']}" if paper.get("note") else "")


@dataclass(frozen=True)
class Stored:
    """A folder of benchmarks/runs: one configuration, a folder for each seed."""

    folder: Path
    seeds: Sequence[Run]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The seeds in their order.

        Raises:
            InputError: it holds none, one lacks a file, or they were tested on different images.
        """
        seeds = [Run(path) for path in sorted(folder.glob("seed*"), key=lambda path: int(path.name[len("seed") :]))]
        if not seeds:
            raise InputError(f"{folder} holds no seed<k>; scripts/store.py puts runs there")
        for run in seeds:
            for name in ("config.yaml", "result.json", "provenance.json", "metrics.jsonl", "overrides.txt"):
                if not (run.folder / name).is_file():
                    raise InputError(f"{run.folder} lacks {name}; scripts/store.py stores whole runs")
        stored = cls(folder, seeds)
        if len({(result["split_hash"], result["episodes"]["n"]) for result in stored.results}) > 1:
            raise InputError(f"the seeds of {folder} were tested on different episodes; they have no common mean")
        return stored

    @cached_property
    def results(self) -> list[dict[str, Any]]:
        return [run.read("result.json") for run in self.seeds]

    @cached_property
    def config(self) -> dict[str, Any]:
        return yaml.safe_load((self.seeds[0].folder / "config.yaml").read_text())

    @property
    def key(self) -> Key:
        algo, _, data = self.folder.name.rpartition("-")[0].partition("-")
        episodes, backbone = self.results[0]["episodes"], self.config["backbone"]["_target_"].split(".")[-2]
        return Key(data, episodes["way"], episodes["shot"], backbone, algo)

    @property
    def metric(self) -> str:
        return self.results[0].get("metric", "accuracy")

    def estimate(self) -> Estimate:
        """Over test episodes where there is one seed, over seeds where there are several."""
        return over([Estimate(**result[self.metric]) for result in self.results])

    def figure(self) -> str:
        """The mean with its interval, and what that is over."""
        found = self.estimate()
        over = f"{found.n} {found.resampled}" if len(self.seeds) > 1 else found.resampled
        return f"{figure(found.mean, self.metric)} ± {figure(found.half_width, self.metric)}<br>over {over}"

    def references(self) -> str:
        """The means of what it is held against."""
        means = []
        for name in ("untrained", "pixels"):
            found = [r["references"][name][self.metric]["mean"] for r in self.results if name in r["references"]]
            means.append(figure(float(np.mean(found)), self.metric) if found else "–")
        return ", ".join(means)

    def tested(self) -> str:
        """On what, and whether queries helped each other."""
        result = self.results[0]
        episodes, queries = (result["episodes"][part] for part in ("n", "query"))
        size = f"{episodes} episodes, {plural(queries, 'query', 'queries')} a class"
        how = "transductive" if result["transductive"] else "inductive"
        return f"{size}<br>{result['normalisation']} ({how})<br>split `{result['split_hash'][:SHORT]}`"

    def otherwise(self) -> Iterator[str]:
        """What the same weights gave on the same episodes by other normalisation or another number of steps."""
        found: dict[str, dict[Path, dict[str, Any]]] = {}  # by seed: one that was asked for twice counts once
        for run, result in zip(self.seeds, self.results, strict=True):
            for path in sorted(run.folder.glob("evaluations/*/result.json")):
                other = Run(path.parent).read(path.name)
                words = " ".join(f"{key}={value}" for key, value in other["asked"].items())
                same = all(other[key] == result[key] for key in ("episodes_hash", "episodes"))
                if same and words and "checkpoint" not in other["asked"]:
                    found.setdefault(words, {})[run.folder] = other
        for words, by_seed in found.items():
            if len(by_seed) == len(self.seeds):
                results = list(by_seed.values())
                of = over([Estimate(**result[self.metric]) for result in results])
                how = "transductive" if results[0]["transductive"] else "inductive"
                text = f"{figure(of.mean, self.metric)} ± {figure(of.half_width, self.metric)}"
                yield f"by `metavision evaluate run=RUN {words}`: {text} ({how})"

    def lag(self, experiment: Experiment) -> float | None:
        """By how many points it falls short of the paper; None: nothing can be said against a figure from memory."""
        if experiment.paper.get("verified") == "false":
            return None
        return float(experiment.paper["accuracy"]) - 100 * self.estimate().mean

    def trained(self, full: Mapping[str, Any] | None) -> str:
        """For how long, how much of it was the paper's, which step was chosen, on what.

        Args:
            full: the configuration of the experiment at the paper's length, if it is one's.
        """
        budget, origins = self.config["budget"], [run.read("provenance.json") for run in self.seeds]
        times = [[row["timing"].get("seconds", 0) for row in run.metrics()] for run in self.seeds]
        minutes = [max(seconds, default=0) / 60 for seconds in times]
        machines = dict.fromkeys(f"{o['device']}, {plural(o['threads'], 'thread', 'threads')}" for o in origins)
        chosen, seeds = (", ".join(str(result[key]) for result in self.results) for key in ("step", "seed"))
        of = f" of {full['budget']['steps']}" if full else ""
        steps = f"{budget['steps']}{of} steps, chosen {chosen}"
        lines = [f"{plural(len(self.seeds), 'seed', 'seeds')}: {seeds}", f"{budget['name']}: {steps}"]
        lines += less(self.config, full) if full else []
        if budget["name"] == "short" and not budget.get("cooldown"):
            lines.append("without a cooldown")
        lines += [f"{np.mean(minutes):.0f} min, {'; '.join(machines)}", self.results[0]["track"]]
        return "<br>".join(lines)

    def command(self) -> str:
        """That which had it, for all seeds."""
        words = (self.seeds[0].folder / "overrides.txt").read_text().splitlines()
        words = [word for word in words if not word.startswith("seed=")]
        numbers = ",".join(str(result["seed"]) for result in self.results)
        many = ["-m"] if len(self.seeds) > 1 else []
        return shlex.join(["metavision", "train", *many, *words, *([f"seed={numbers}"] if numbers != "0" else [])])

    def differences(self, experiment: Experiment) -> list[str]:
        """The settings, apart from the budget, that are not the experiment's."""
        theirs = config.identity(experiment.config(self.config["budget"]["name"]))
        ours = config.identity(self.config)
        if experiment.staged and ours["init"] is not None:
            theirs["init"] = ours["init"]
        return list(differing({**ours, "budget": None}, {**theirs, "budget": None}))


@cache
def composed(experiment: str, budget: str) -> dict[str, Any]:
    config.register()
    with hydra.initialize_config_dir(str(config.folder()), version_base="1.3"):
        return config.plain(hydra.compose("train", [f"experiment={experiment}", f"budget={budget}"]))


def less(ours: Mapping[str, Any], full: Mapping[str, Any]) -> list[str]:
    """Of what a step of outer training has less than the paper's."""
    (tasks, queries), (all_tasks, all_queries) = (
        (found["episode"]["meta_batch"], found["episode"]["train"]["query"] or 0) for found in (ours, full)
    )
    lines = [f"{tasks} of {all_tasks} tasks a step"] if tasks < all_tasks else []
    return lines + ([f"{queries} of {all_queries} training queries"] if queries < all_queries else [])


def differing(a: Mapping[str, Any], b: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Where two configurations differ.

    What only one has is an option that was set beyond its file, or that the code of a did not have yet; the other did
    what is the default of its class now.
    """
    for key in sorted(a.keys() | b.keys()):
        here = f"{path}.{key}" if path else key
        if key not in a or key not in b:
            has = b if key in b else a
            if "_target_" in has and has[key] != default(has["_target_"], key):
                yield here
        elif isinstance(a[key], Mapping) and isinstance(b[key], Mapping):
            yield from differing(a[key], b[key], here)
        elif a[key] != b[key]:
            yield here


def default(target: str, option: str) -> Any:
    """What an option of a class or function is where nobody sets it."""
    parameter = inspect.signature(config.locate(target)).parameters.get(option)
    return None if parameter is None else parameter.default


def over(seeds: Sequence[Estimate]) -> Estimate:
    """Of one seed as it is, of several over them."""
    return seeds[0] if len(seeds) == 1 else estimate(np.array([seed.mean for seed in seeds]), "training seeds")


def plural(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"


def page(experiments: Path, runs: Path) -> str:
    """The text of RESULTS.md."""
    asked = sorted((Experiment.read(path) for path in experiments.glob("*.yaml")), key=lambda e: _order(e.key))
    stored = [Stored.read(folder) for folder in sorted(runs.iterdir()) if folder.is_dir()] if runs.is_dir() else []
    stored.sort(key=lambda run: (_order(run.key), -run.config["budget"]["steps"], run.folder.name))
    text = HEAD
    for data, of_data in groupby(asked, lambda e: e.key.data):
        text += f"\n## {TITLES.get(data, data)}\n"
        for (way, shot), group in groupby(of_data, lambda e: (e.key.way, e.key.shot)):
            rows = [row for e in group for row in _rows(e, [run for run in stored if run.key == e.key])]
            text += f"\n### {way}-way {shot}-shot\n\n{_table(rows)}"
    known = {e.key for e in asked}
    if others := [run for run in stored if run.key not in known]:
        text += f"\n## Other runs\n\nOf no published number.\n\n{_table([_other(run) for run in others])}"
    return text


def pending(experiments: Path, runs: Path) -> list[str]:
    """Names of the experiments that can be run by one command and have no stored run of the full budget.

    MAML and ProtoNet come first, on Omniglot and mini-ImageNet, since everybody knows their figures.
    """
    folders = [folder for folder in runs.iterdir() if folder.is_dir()] if runs.is_dir() else []
    full = {run.key for run in map(Stored.read, folders) if run.config["budget"]["name"] == "full"}
    asked = [Experiment.read(path) for path in experiments.glob("*.yaml")]
    wanted = [e for e in asked if e.key not in full and not e.staged]
    return [e.path.stem for e in sorted(wanted, key=lambda e: (worth(e.key), e.path.stem))]


def worth(key: Key) -> tuple[bool, ...]:
    """What is False comes first."""
    known = key.algo in ("maml", "protonet") and key.data in ("omniglot", "miniimagenet") and key.backbone == USUAL
    return not known, (key.way, key.shot) != (5, 1), key.algo != "maml", key.data != "omniglot"


def _order(key: Key) -> tuple[Any, ...]:
    known = [*TITLES]
    return (known.index(key.data) if key.data in known else len(known), *key)


def _rows(experiment: Experiment, runs: Sequence[Stored]) -> Iterator[list[str]]:
    first = [f"[{experiment.key.algo}](conf/experiment/{experiment.path.name})", experiment.key.backbone]
    first.append(experiment.figure())
    if not runs:
        yield [*first, NONE, "", "", "", f"`{experiment.command}`"]
    for run in runs:
        cells = _cells(run, experiment.config("full"))
        if (lag := run.lag(experiment)) is not None:
            cells[0] += f"<br>{abs(lag):.2f} {'below' if lag > 0 else 'above'}"
        cells[0] += "".join(f"<br>{line}" for line in run.otherwise())
        if others := run.differences(experiment):
            cells[0] += f"<br>other settings: {', '.join(f'`{path}`' for path in others)}"
        if tried := experiment.paper.get("tried"):
            cells[0] += f"<br>tried: {tried}"
        yield [*first, *cells]


def _cells(run: Stored, full: Mapping[str, Any] | None = None) -> list[str]:
    return [run.figure(), run.references(), run.tested(), run.trained(full), f"`{run.command()}`"]


def _other(run: Stored) -> list[str]:
    key = run.key
    return [f"{key.algo}, {key.data}, {key.way}-way {key.shot}-shot", key.backbone, "", *_cells(run)]


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = [COLUMNS, ["---"] * len(COLUMNS), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> int:
    parser = Parser(prog="results.py", description="Writes RESULTS.md.")
    parser.add_argument("--pending", action="store_true", help="print the experiments that have no full run instead")
    if parser.parse_args(sys.argv[1:]).pending:
        print(*pending(EXPERIMENTS, RUNS), sep="\n")
        return 0
    PAGE.write_text(page(EXPERIMENTS, RUNS), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
