"""`metavision VERB …`: finds the verb, runs it, and turns errors into one line and an exit code."""

import ctypes
import os
import platform
import sys
from importlib import import_module

# Before torch is imported: threads that spin while they wait bring a busy machine to a crawl.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# A freed tensor of many megabytes would go back to the system, and the next one be faulted in page by page: on a CPU up
# to a half of the time. So large blocks are kept (glibc: M_MMAP_MAX 0, M_TRIM_THRESHOLD as high as it goes).
if platform.libc_ver()[0] == "glibc":
    _libc = ctypes.CDLL(None)
    _libc.mallopt(-4, 0)
    _libc.mallopt(-1, 2**31 - 1)

VERBS = {
    "train": "meta-train an algorithm, validate, keep checkpoints, and test at the end",
    "evaluate": "score a run or a checkpoint on fixed episodes",
    "compare": "put runs side by side: paired differences, a table, a page",
    "data": "list, prepare, show and verify data sets",
    "bench": "measure against peers on the same work",
    "completion": "print the shell code that makes the tab key work",
}
HELP = """metavision: meta-learning and few-shot learning in vision, from one command line

Usage: metavision VERB [FLAGS] [KEY=VALUE …]

Verbs
{verbs}

Examples
  metavision train                                       a first result, with nothing to download
  metavision train algo=maml data=omniglot               another algorithm and data set
  metavision train -m algo=maml,protonet seed=0,1,2      every combination
  metavision evaluate run=outputs/protonet-glyphs-1a2b3c4d/seed0 shot=5

metavision VERB --help shows what a verb can be told; --version the version.
"""


def main(words: list[str] | None = None) -> int:
    """Runs a command line and returns its exit code: 0, 1 (it failed), 2 (bad input), 130 (interrupted)."""
    words = sys.argv[1:] if words is None else words
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP.format(verbs="\n".join(f"  {verb:<12}{what}" for verb, what in VERBS.items())), end="")
        return 0
    if words[0] == "--version":
        import metavision

        print(f"metavision {metavision.__version__}")
        return 0
    from metavision.cli.guard import guarded

    return guarded(lambda: _run(words[0], words[1:]))


def _run(verb: str, words: list[str]) -> int:
    if verb not in VERBS:
        from metavision.errors import InputError, suggestion

        raise InputError(f"there is no verb {verb}{suggestion(verb, VERBS)}")
    return import_module(f"metavision.cli.{verb}").main(words)


if __name__ == "__main__":
    sys.exit(main())
