"""`metavision sync`: send what W&B runs kept offline."""

import fcntl
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from metavision.cli.parser import Parser
from metavision.console import note, stdout
from metavision.errors import InputError

EXAMPLES = """examples
  metavision sync                     all runs below outputs
  metavision sync outputs/maml-*      some of them

The key is wandb's own affair: WANDB_API_KEY, or `wandb login`. What was sent is marked, and skipped from then on.
"""
SILENT = "no end in"
WANDB = (sys.executable, "-m", "wandb")
ASK = (sys.executable, "-c", "import sys; from metavision.tracking.wandb import has_key; sys.exit(not has_key())")


def main(words: list[str]) -> int:
    parser = Parser(prog="metavision sync", description="Sends what W&B runs kept offline.", epilog=EXAMPLES)
    parser.add_argument("folders", metavar="FOLDER", nargs="*", type=Path, default=[Path("outputs")])
    parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="that a run may take")
    given = parser.parse_args(words)
    if not given.timeout > 0:
        raise InputError(f"--timeout is {given.timeout:g}; it must be above 0")
    for folder in given.folders:
        if not folder.is_dir():
            raise InputError(f"there is no folder {folder}")
    unsent, sent = _found(given.folders)
    if not unsent:
        stdout.print(f"nothing to send; {sent} offline runs were sent before", soft_wrap=True)
        return 0
    environment = {**os.environ, "WANDB_MODE": "online", "WANDB_ERROR_REPORTING": "false"}
    if not _has_key(environment, given.timeout):
        raise InputError("there is no W&B key: set WANDB_API_KEY, or call `wandb login`")
    failures = 0
    for place, (run, parts) in enumerate(unsent.items(), start=1):
        if _in_use(run):
            stdout.print(f"{run}: skipped, for it is still running", soft_wrap=True, markup=False)
            continue
        note(f"sending {run} ({place} of {len(unsent)})")
        why = _send(parts, environment, given.timeout)
        failures += bool(why)
        stdout.print(f"{run}: {f'not sent: {why}' if why else 'sent'}", soft_wrap=True, markup=False)
        if why.startswith(SILENT) and place < len(unsent):
            stdout.print(f"the server does not answer; {len(unsent) - place} runs are left", soft_wrap=True)
            break
    return int(failures > 0)


def _has_key(environment: dict[str, str], timeout: float) -> bool:
    """wandb is asked only for a key that it stores itself; where it does not answer, the sending will tell."""
    if environment.get("WANDB_API_KEY"):
        return True
    quiet = subprocess.DEVNULL
    try:
        return not subprocess.run(
            ASK, env=environment, stdin=quiet, stderr=quiet, timeout=timeout, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        return True


def _found(folders: list[Path]) -> tuple[dict[Path, list[Path]], int]:
    """What is to be sent of each run, in order of time, and how many runs were sent before.

    A run has left a folder for each time that it was resumed; those that wandb has marked as sent are left out.
    """
    runs: dict[Path, list[Path]] = defaultdict(list)
    found = {part.absolute() for folder in folders for part in folder.absolute().rglob("offline-run-*")}
    found |= {folder.absolute() for folder in folders if folder.name.startswith("offline-run-")}
    for part in sorted(part for part in found if part.parent.name == "wandb"):
        runs[part.parent.parent].append(part)
    unsent = {run: [part for part in parts if not list(part.glob("*.wandb.synced"))] for run, parts in runs.items()}
    left = {run: parts for run, parts in unsent.items() if parts}
    return left, len(runs) - len(left)


def _in_use(run: Path) -> bool:
    """Whether a process is in the run's folder: what it writes after the sending would be taken for sent."""
    lock = run / ".lock"
    if not lock.is_file():
        return False
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _send(parts: list[Path], environment: dict[str, str], timeout: float) -> str:
    """Why a run was not sent; nothing if it was."""
    command = [*WANDB, "sync", *map(str, parts)]
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{SILENT} {timeout:g} s"
    lines = [line.removeprefix("wandb: ").strip() for line in done.stdout.splitlines() if line.strip()]
    said = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "")
    if done.returncode:
        return said or f"wandb ended with {done.returncode}"
    # It may end well without having sent a thing, so its mark decides.
    return "" if all(list(part.glob("*.wandb.synced")) for part in parts) else said or "wandb does not say why"
