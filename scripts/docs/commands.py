"""The page of the command line: what `metavision VERB --help` says."""

import os
import re
import subprocess
import sys

from metavision.cli.__main__ import VERBS

WIDTH = "110"  # columns
INTRODUCTION = """# Commands

What each verb says of itself. Keys of `train`, `evaluate` and `adapt` are on [pages of their own](options/index.md).
Exit codes: 0 done; 1 failed; 2 bad input, told in one line; 3 `predict` skipped files; 75 ended by a signal, to be
given again; 130 interrupted ([what to do](faults.md)).
"""


def pages() -> dict[str, str]:
    """Markdown by path."""
    parts = [f"## {verb}\n\n```text\n{_help(verb)}\n```\n" for verb in VERBS]
    return {"commands.md": "\n".join([INTRODUCTION, *parts])}


def _help(verb: str) -> str:
    command = [sys.executable, "-m", "metavision.cli", verb, "--help"]
    env = {**os.environ, "COLUMNS": WIDTH, "NO_COLOR": "1"}
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout
    parts = told.rstrip().split("\n\n")
    return "\n\n".join(part for part in parts if not re.match(r"\w+:( |\n)", part))  # the configuration as YAML
