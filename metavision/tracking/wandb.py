"""Weights & Biases, spoken to by a process of its own.

The library may print, prompt, patch `sys.exit`, keep the state of a failed start and wait for a server without end.
In a child it can do so: the run feeds it lines and never waits for it; a child that does not answer is ended, and
another one keeps the run offline. The child sees the end of its input when the run is killed, so no row is lost.
"""

import json
import os
import queue
import re
import secrets
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Literal

from metavision.drafts import draft_of
from metavision.errors import first_line
from metavision.tracking.base import Notice, curves, numbers

Message = dict[str, Any]  # one line of JSON, to the child or from it


@dataclass
class Wandb:
    """Sends a run to a W&B server, or keeps it in the run's folder until `wandb sync` sends it.

    The key is wandb's own affair (`WANDB_API_KEY`, `wandb login`); it is read by the child and enters no option.

    Args:
        project: the project on the server.
        entity: the team or user; null is the key's default.
        mode: `auto` follows `WANDB_MODE`, `wandb offline` and `wandb disabled`, and is offline without a key.
        group: null is the run's name without the seed.
        tags: for filtering, beside those of algorithm, data set and budget.
        upload_checkpoint: sends the selected checkpoint as an artifact.
        timeout: seconds that start and finish may take, each.
    """

    project: str = "metavision"
    entity: str | None = None
    mode: Literal["auto", "online", "offline"] = "auto"
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    upload_checkpoint: bool = False
    timeout: float = 30.0

    def __post_init__(self) -> None:
        self._child: _Child | None = None
        self._sync = ""  # the command that sends what was not sent

    def start(self, folder: Path, name: str, config: Mapping[str, Any], provenance: Mapping[str, Any]) -> Notice:
        folder, identity = folder.absolute(), _identity(folder, name)
        opening = {
            "project": self.project,
            "entity": self.entity,
            "dir": str(folder),
            "id": identity,
            "name": name,
            "group": self.group or name.partition("/")[0],
            "tags": self._tags(name, config),
            "config": {**config, "provenance": provenance},
        }
        failure = ""
        for mode in (self.mode,) if self.mode == "offline" else (self.mode, "offline"):
            child = _Child({"mode": mode, "timeout": self.timeout, "init": opening}, folder / "wandb")
            answer = child.answer(self.timeout / 2)
            if not answer or "error" in answer:
                child.end(0)
                failure = failure or (answer or {}).get("error") or f"no answer in {self.timeout / 2:g} s"
                continue
            if answer["mode"] == "disabled":
                child.end(1)
                return "W&B is disabled"
            self._child = child
            if answer["mode"] == "online":
                self._sync = f"wandb sync --include-online {shlex.quote(answer['folder'])}"
                return f"W&B: {answer['url']}"
            # A run that was resumed or killed offline has left a folder for each time; `wandb sync` puts them in order.
            self._sync = f"wandb sync {shlex.quote(str(folder / 'wandb'))}/offline-run-*-{identity}*"
            why = failure or answer["why"]
            return f"W&B is offline{f' ({why})' if why else ''}; the run is kept in {answer['folder']}"
        return f"W&B gets nothing of this run: {failure}"

    def _tags(self, name: str, config: Mapping[str, Any]) -> list[str]:
        """The user's, and what runs are filtered by: `<algo>`, `<data>`, and the budget."""
        own = [*name.partition("/")[0].split("-")[:-1], config.get("budget", {}).get("name")]
        return list(dict.fromkeys([*self.tags, *filter(None, own)]))

    def log(self, row: Mapping[str, Any]) -> None:
        if self._child:
            step, values = curves(row)
            self._child.tell({"step": step, "values": values})

    def finish(self, result: Mapping[str, Any], checkpoint: Path | None) -> Notice:
        if not self._child:
            return None
        child, self._child, deadline = self._child, None, time.monotonic() + self.timeout
        model = str(checkpoint.absolute()) if checkpoint and self.upload_checkpoint else None
        child.tell({"summary": numbers(result), "failed": not result, "model": model})
        answer = child.answer(self.timeout - 1) or {"unsent": f"no answer in {self.timeout:g} s"}
        child.end(deadline - time.monotonic())
        return f"W&B: {answer['unsent']}; to send the run: {self._sync}" if answer["unsent"] else None


def _identity(folder: Path, name: str) -> str:
    """The run's id on the server: kept beside the metrics, and forgotten with them when the run is begun anew.

    The name alone would not do: W&B drops rows below the last step of an id, so a second run of the same settings,
    a colleague's in the same project or one's own that is begun anew, would vanish into the first.
    """
    path = folder / "wandb.id"
    # `wandb agent` has named the run, and waits for this one.
    identity = os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None
    if not identity and path.is_file():
        return path.read_text()
    identity = identity or f"{re.sub(r'[^A-Za-z0-9_.-]', '-', name)[-100:]}-{secrets.token_hex(3)}"
    with draft_of(path, alone=True) as draft:
        draft.write_text(identity)
    return identity


class _Child:
    """This file as a process: lines in, lines out; nothing here waits longer than it says.

    Args:
        opening: the first line.
        files: where wandb keeps what it would put below the home folder.
    """

    def __init__(self, opening: Message, files: Path) -> None:
        kept = {"WANDB_CACHE_DIR": str(files / "cache"), "WANDB_DATA_DIR": str(files), "WANDB_ERROR_REPORTING": "false"}
        path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)  # noqa: PTH100 - entries are no paths yet
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "metavision.tracking.wandb"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**kept, **os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is the run's; it finishes its tracker itself
        )
        self.lines: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self.feeder = threading.Thread(target=self._feed, daemon=True)
        self.feeder.start()
        self.tell(opening)

    def tell(self, message: Message) -> None:
        self.lines.put(message)

    def answer(self, timeout: float) -> Message | None:
        """The next line, or None if the child is silent or dead."""
        assert self.process.stdout
        line = self.process.stdout.readline() if wait([self.process.stdout.fileno()], timeout) else b""
        return json.loads(line) if line else None

    def end(self, timeout: float) -> None:
        """Lets the child end, and then makes it."""
        self.lines.put(None)
        try:
            self.process.wait(max(timeout, 0))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.feeder.join()
        assert self.process.stdout
        self.process.stdout.close()

    def _feed(self) -> None:
        """A thread: a pipe that is not read blocks whoever writes."""
        assert self.process.stdin
        with suppress(OSError), self.process.stdin as pipe:
            for message in iter(self.lines.get, None):
                pipe.write(json.dumps(message, default=str).encode() + b"\n")
                pipe.flush()


def _serve() -> None:
    """What the child does."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a scheduler stops all processes; the run says when it is over
        signal.signal(number, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # wandb and its service print there

    def answer(**message: Any) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    opening = json.loads(sys.stdin.readline())
    try:
        run, mode, why = _init(**opening)
    except Exception as error:
        return answer(error=_line(error))
    if not run:
        return answer(mode=mode)
    answer(mode=mode, why=why, url=run.url, folder=str(Path(run.dir).parent))

    unsent = "" if mode == "online" else "offline"
    closing: Message = {"summary": {}, "failed": True, "model": None}
    for line in sys.stdin:
        message = json.loads(line)
        if "summary" in message:
            closing = message
            break
        # Rows of one step are merged: without `commit`, wandb holds a step back until a later one comes.
        run.log(message["values"], step=message["step"])
    try:
        _close(run, **closing)
    except Exception as error:
        unsent = unsent or f"not all was sent ({_line(error)})"
    return answer(unsent=unsent)


def _init(mode: Any, timeout: float, init: Message) -> tuple[Any, str, str]:
    """A run of `wandb` (None if it is disabled), its mode, and why it is offline if nobody asked for that."""
    import wandb

    chosen: dict[str, Any] = {} if mode == "auto" else {"mode": mode}
    settings = wandb.Settings(
        silent=True,
        console="off",
        init_timeout=timeout / 3,  # start has a half for each of two attempts
        finish_timeout=timeout / 2,
        finish_timeout_raises=True,
        disable_git=True,  # the provenance has it, and an address of a remote may hold a password
        disable_code=True,
        x_stats_pid=os.getppid(),
        **chosen,
    )
    why: str = ""
    mode = wandb.setup(settings).settings.mode
    if mode == "disabled":
        return None, mode, why
    if mode != "online":
        mode = "offline"
    elif not has_key():
        why, mode = "no key", "offline"
    return wandb.init(**init, mode=mode, job_type="train", resume="allow", settings=settings), mode, why


def has_key() -> bool:
    """Without a terminal, wandb raises where it would prompt."""
    import wandb

    try:
        return wandb.login(verify=False)
    except wandb.errors.UsageError:
        return False


def _close(run: Any, summary: Message, failed: bool, model: str | None) -> None:
    import wandb

    run.summary.update(summary)
    if model:
        artifact = wandb.Artifact(f"{run.id}-checkpoint", type="model")
        artifact.add_file(model, policy="immutable", skip_cache=True)  # sent from where it lies: no copy
        run.log_artifact(artifact)
    run.finish(exit_code=int(failed))


def _line(error: Exception) -> str:
    return first_line(error)[:500]


if __name__ == "__main__":
    _serve()
