"""`metavision VERB …`: finds the verb, runs it, and turns errors into one line and an exit code."""

import sys
from importlib import import_module

from metavision.cli import process  # noqa: F401 - before torch

VERBS = {
    "train": "meta-train an algorithm, validate, keep checkpoints, and test at the end",
    "evaluate": "score a run or a checkpoint on fixed episodes",
    "adapt": "make a classifier of a folder of your labelled images",
    "predict": "label new images with a classifier",
    "explain": "show what a classifier's answers rest on: images of the support, places in the image",
    "export": "write a classifier as ONNX, or for torch.export",
    "compare": "put runs side by side: paired differences, a table, a page",
    "data": "list, prepare, show and verify data sets",
    "sync": "send what W&B runs kept offline",
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
  metavision adapt run=outputs/protonet-cifarfs-1a2b3c4d/seed0 support=photos/flowers
  metavision predict flowers.classifier photos/new --out labels.csv --sheet labels.html
  metavision explain flowers.classifier photos/new/a.jpg
  metavision export flowers.classifier --onnx flowers.onnx

metavision VERB --help shows what a verb can be told; --version the version.
"""


def main(words: list[str] | None = None) -> int:
    """Runs a command line and returns its exit code: 0, 1 (it failed), 2 (bad input), 3 (`predict` skipped some
    files), 75 (a signal asked for the end, and the command wants to be given again), 130 (interrupted)."""
    words = sys.argv[1:] if words is None else words
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP.format(verbs="\n".join(f"  {verb:<12}{what}" for verb, what in VERBS.items())), end="")
        return 0
    if words[0] == "--version":
        import metavision

        print(f"metavision {metavision.__version__}")
        return 0
    from metavision.cli.guard import guarded

    return guarded(lambda: _run(words[0], words[1:]), advice=_advice(words))


def _advice(words: list[str]) -> str:
    """What to say behind an interruption."""
    if words[0] != "train":
        return ""
    again = any(word.startswith("rerun=") for word in words)  # which would begin anew, however often
    return f"; the same command{' without rerun' if again else ''} goes on from the last checkpoint"


def _run(verb: str, words: list[str]) -> int:
    if verb not in VERBS:
        from metavision.errors import InputError, suggestion

        raise InputError(f"there is no verb {verb}{suggestion(verb, VERBS)}")
    return import_module(f"metavision.cli.{verb}").main(words)


if __name__ == "__main__":
    sys.exit(main())
