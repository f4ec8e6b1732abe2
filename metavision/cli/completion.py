"""`metavision completion bash`: the tab key completes verbs, options and their values."""

import os
import sys

from metavision.cli.__main__ import VERBS
from metavision.errors import InputError, suggestion

# Bash splits words at `=`, so only what follows the last one is replaced.
BASH = """\
_metavision() {
    local words
    words=$(COMP_LINE="${COMP_LINE:0:$COMP_POINT}" metavision completion query 2>/dev/null)
    local current="${COMP_LINE:0:$COMP_POINT}"; current="${current##* }"
    local cut="${current%"${current##*=}"}"
    COMPREPLY=()
    while IFS= read -r word; do
        [ -n "$word" ] && COMPREPLY+=("${word#"$cut"}")
    done <<< "$words"
}
complete -o nospace -o default -F _metavision metavision
"""
SHELLS = {"bash": BASH, "zsh": f"autoload -U +X bashcompinit && bashcompinit\n{BASH}"}
OPTIONS = {  # of verbs whose other words are files
    "predict": ("out", "sheet", "unknown", "top", "neighbours", "device"),
    "explain": ("out", "class", "support", "most", "device"),
    "export": ("onnx", "torch", "int8", "input", "support"),
}
HELP = """Print the shell code that makes the tab key complete verbs, options and their values.

Usage: metavision completion bash|zsh

  eval "$(metavision completion bash)"      now; into ~/.bashrc for ever
"""


def main(words: list[str]) -> int:
    if words == ["query"]:
        print("\n".join(candidates(os.environ.get("COMP_LINE", ""))))
        return 0
    if not words or words[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0
    if words[0] not in SHELLS:
        raise InputError(f"there is no completion for {words[0]}{suggestion(words[0], SHELLS)}")
    sys.stdout.write(SHELLS[words[0]])
    return 0


def candidates(line: str) -> list[str]:
    """What the last word of a command line can become."""
    words = line.split(" ")[1:]
    if len(words) < 2:
        return [f"{verb} " for verb in VERBS if verb.startswith(words[-1] if words else "")]
    if words[0] not in ("train", "evaluate", "adapt"):
        if words[0] in OPTIONS and not words[-1].startswith("-"):
            return []  # the shell completes names of files
        return [word for word in _arguments(words[:-1]) if word.startswith(words[-1])]
    return _overrides(words[0], " ".join(words[1:]))


def _arguments(before: list[str]) -> list[str]:
    """What can follow these words of a verb that composes no configuration."""
    match before:
        case ["data"]:
            return ["list ", "prepare ", "show ", "verify "]
        case ["data", "prepare" | "show" | "verify"]:
            from metavision import config

            return sorted(f"{path.stem} " for path in (config.folder() / "data").glob("*.yaml"))
        case ["bench"]:
            from metavision.cli.bench import WORKS

            return [f"{work} " for work in WORKS]
        case ["completion"]:
            return list(SHELLS)
        case [verb, *_] if verb in OPTIONS:
            return [f"--{option} " for option in OPTIONS[verb]]
    return []


def _overrides(verb: str, line: str) -> list[str]:
    # Hydra knows how to complete its own language; only its plug-ins give access to that.
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.core_plugins.bash_completion import BashCompletion
    from hydra._internal.utils import create_config_search_path

    from metavision import config

    config.register()
    loader = ConfigLoaderImpl(config_search_path=create_config_search_path(str(config.folder())))
    return BashCompletion(loader)._query(config_name=verb, line=line)  # noqa: SLF001
