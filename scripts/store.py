"""Keeps finished runs in benchmarks/runs, for RESULTS.md, without what tells where they were made.

python scripts/store.py outputs/maml-omniglot-1a2b3c4d/seed0 …
"""

import json
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from metavision.cli.guard import guarded
from metavision.cli.parser import Parser
from metavision.errors import InputError
from metavision.records.run import EVALUATIONS, Run

RUNS = Path(__file__).parent.parent / "benchmarks" / "runs"
KEPT = ("config.yaml", "overrides.txt", "provenance.json", "metrics.jsonl", "result.json", "DONE")
SMALL = 200_000  # bytes up to which episodes.npz is kept, too

PLACES = ("root", "outputs")  # settings that say where something lies, and nothing else


def store(run: Run, runs: Path, *, dirty: bool) -> Path:
    """Copies what is kept of a run, and returns where to; of one that is there already, evaluations that are not.

    Raises:
        InputError: it is not finished, its code or that of an evaluation is no commit, or all of it is there already.
    """
    if not run.done:
        raise InputError(f"{run.folder} is no finished run; it has no DONE")
    if missing := [name for name in KEPT if not (run.folder / name).is_file()]:
        raise InputError(f"{run.folder} lacks {', '.join(missing)}")
    origin = run.read("provenance.json")
    target = runs / run.folder.parent.name / run.folder.name
    evaluations = [done.parent for done in sorted(run.folder.glob(f"{EVALUATIONS}/*/DONE"))]
    evaluations = [made for made in evaluations if not (target / EVALUATIONS / made.name).exists()]
    made_by = {run.folder: origin["git"], **{e: Run(e).read("result.json").get("git") for e in evaluations}}
    for folder, git in made_by.items():
        if not dirty and (git is None or git["dirty"]):
            what = "was not run from a checkout" if git is None else "was run with changes that are in no commit"
            raise InputError(f"{folder} {what}, so nobody can have it again; --dirty stores it anyway")
    if target.exists():
        if not evaluations or (target / "result.json").read_bytes() != (run.folder / "result.json").read_bytes():
            raise InputError(f"{target} is there already; remove it first")
    else:
        _store(run, target, origin)
    for made in evaluations:
        kept = target / EVALUATIONS / made.name
        kept.mkdir(parents=True)
        Run(kept).write("result.json", json.dumps(nowhere(Run(made).read("result.json")), indent=2))
    return target


def _store(run: Run, target: Path, origin: Mapping[str, Any]) -> None:
    overrides = [word for line in (run.folder / "overrides.txt").read_text().splitlines() if (word := placeless(line))]
    target.mkdir(parents=True)
    kept = Run(target)
    kept.write("config.yaml", nowhere(yaml.safe_load((run.folder / "config.yaml").read_text())))
    kept.write("overrides.txt", "".join(f"{word}\n" for word in overrides))
    # The kernel's release is the machine's own; what was installed and on which device it ran is what counts.
    system = re.sub(r"^(\w+)-.*?-(x86_64|aarch64|arm64|AMD64)", r"\1-\2", origin["platform"])
    command = shlex.join(["metavision", "train", *overrides])
    kept.write("provenance.json", json.dumps({**origin, "platform": system, "command": command}, indent=2))
    for name in ("metrics.jsonl", "result.json", "DONE"):
        shutil.copyfile(run.folder / name, target / name)
    episodes = run.folder / "episodes.npz"
    if episodes.is_file() and episodes.stat().st_size < SMALL:
        shutil.copyfile(episodes, target / episodes.name)


def nowhere(value: Any) -> Any:
    """A configuration without places: of a path that begins at a root or a home, its end is left."""
    if isinstance(value, Mapping):
        return {key: nowhere(inner) for key, inner in value.items() if key not in PLACES}
    if isinstance(value, list):
        return [nowhere(inner) for inner in value]
    if isinstance(value, str) and value.startswith(("/", "~")):
        parts = Path(value).parts
        return "/".join(parts[-2:] if re.fullmatch(r"seed\d+", parts[-1]) else parts[-1:])
    return value


def placeless(override: str) -> str:
    """An override of the command line likewise; empty where all that it says is a place."""
    key, _, value = override.partition("=")
    if key.rpartition(".")[2].lstrip("+") in PLACES:
        return ""
    bare = value.strip("'\"")
    return override if nowhere(bare) == bare else f"{key}={nowhere(bare)}"


def main(words: list[str]) -> int:
    parser = Parser(prog="store.py", description=__doc__)
    parser.add_argument("run", nargs="+", type=Path, help="a run's folder, outputs/<algo>-<data>-<id>/seed<k>")
    parser.add_argument("--dirty", action="store_true", help="also a run whose code is no commit")
    asked = parser.parse_args(words)
    for folder in asked.run:
        print(store(Run(folder.resolve()), RUNS, dirty=asked.dirty))
    print("make results writes RESULTS.md anew")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
