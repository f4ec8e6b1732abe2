"""Collects what `make gpu` needs on a machine that has torch, torchvision and no network, into `wheels/`.

python scripts/collect_wheels.py --python python3.12 --without scipy matplotlib

Run with the packages of .venv: their versions are taken, and what they need in turn. Left out is what comes with torch
and torchvision (numpy and pillow among it), what a run does without, and what `--without` or `--there` names.
"""

import re
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from metavision.cli.guard import guarded
from metavision.cli.parser import Parser
from metavision.errors import InputError

TARGET = Path(__file__).resolve().parent.parent / "wheels"
LIMIT = 64 * 2**20  # bytes: what is easily carried
TESTS = ("pytest", "pytest-timeout")
PEERS = ("learn2learn", "requests", "tqdm", "higher", "torchopt", "easyfsl")
THERE = ("torch", "torchvision")  # and what they need
# Large: logger=none; without pandas the peer easyfsl is said to be not measured; numba compiles for a CPU alone.
DISPENSABLE = ("wandb", "pandas", "numba")
# Needed by these packages as they say, but not by what is run of them.
NOT_IMPORTED = {"learn2learn": ("gym", "qpth", "gsutil", "pytorch-lightning")}
OPTIONS = {"learn2learn": '--config-settings="--build-option=build_ext"'}  # see install_learn2learn.py


def needs(name: str) -> set[str]:
    """The packages that a package names as its needs, without extras."""
    try:
        named = distribution(name).requires or []
    except PackageNotFoundError:
        return set()
    wanted = (Requirement(text) for text in named)
    found = {canonicalize_name(r.name) for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})}
    return found - set(NOT_IMPORTED.get(name, ()))


def closure(names: Iterable[str], without: Iterable[str] = ()) -> set[str]:
    """Packages and all that they need, but for some and what is needed by these alone."""
    found, left_out = set(), set(without)
    waiting = [canonicalize_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name not in found | left_out:
            found.add(name)
            waiting += needs(name)
    return found


def pins(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Lines of a requirements file, by the versions installed here; and what is not installed."""
    lines, missing = [], []
    for name in sorted(names):
        try:
            lines.append(f"{name}=={distribution(name).version} {OPTIONS.get(name, '')}".strip())
        except PackageNotFoundError:
            missing.append(name)
    return lines, missing


def there(freeze: Path | None) -> set[str]:
    """The packages that a file lists, as `pip freeze` writes it on the machine."""
    lines = freeze.read_text().splitlines() if freeze else []
    return {canonicalize_name(name[0]) for line in lines if (name := re.match(r"[\w.-]+", line))}


def main(words: list[str]) -> int:
    parser = Parser(prog="collect_wheels.py", description=__doc__)
    parser.add_argument("--python", default="python3", help="of the version that the machine has; it builds the wheels")
    parser.add_argument("--without", nargs="*", default=[], help="packages that are there, or can be done without")
    parser.add_argument("--there", type=Path, help="a file with the packages that are there, of pip freeze")
    parser.add_argument("--dry-run", action="store_true", help="say what would be collected")
    asked = parser.parse_args(words)
    try:
        version = subprocess.run([asked.python, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        raise InputError(f"--python {asked.python} can't be run: {error}") from error
    without = {canonicalize_name(name) for name in asked.without} | there(asked.there)
    without |= closure(THERE) | set(DISPENSABLE)
    lines, missing = pins(closure([*needs("metavision"), *TESTS, *PEERS], without))
    if missing:
        print(f"not installed here, so left out: {', '.join(missing)}")
    if asked.dry_run:
        print(*lines, sep="\n")
        return 0
    TARGET.mkdir(exist_ok=True)
    for old in TARGET.glob("*.whl"):
        old.unlink()
    for line in lines:
        pins_file = TARGET / "requirement.txt"  # options of a build are read from a file alone
        pins_file.write_text(f"{line}\n")
        pip = [asked.python, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run([*pip, "-w", TARGET, "-r", pins_file], capture_output=True, text=True, check=False)
        pins_file.unlink()
        if done.returncode:
            print(f"{line} can't be had for {version}, so it is left out: {done.stderr.strip().splitlines()[-1]}")
    return report()


def report() -> int:
    """Prints what was collected, the largest first.

    Raises:
        InputError: it is more than is easily carried.
    """
    sizes = {path.name: path.stat().st_size for path in TARGET.glob("*.whl")}
    for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
        print(f"{size / 2**20:7.2f} MiB  {name}")
    total = sum(sizes.values())
    print(f"{total / 2**20:7.2f} MiB  in {len(sizes)} wheels in {TARGET.name}/")
    if total > LIMIT:
        raise InputError(f"that is more than {LIMIT / 2**20:.0f} MiB; --without leaves out what is there or not needed")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
