"""`metavision export`: a classifier for other programs."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from metavision.cli.parser import Parser
from metavision.errors import InputError, not_installed

if TYPE_CHECKING:  # help must not wait for torch
    from metavision.classify.exporting.exporting import Exported

EXAMPLES = """examples
  metavision export flowers.classifier --onnx flowers.onnx            for onnxruntime and others
  metavision export flowers.classifier --torch flowers.pt2            for torch.export.load
  metavision export flowers.classifier --onnx small.onnx --int8       linear layers (transformers) as bytes

What is written takes images (n, C, H, W) of the classifier's size and answers with probabilities; FILE.json beside it
has the classes and how images are to be prepared. It is read again, tried, and kept where answers are the same to 1e-4.
"""


def main(words: list[str]) -> int:
    parser = Parser(prog="metavision export", description="Write a classifier for other programs.", epilog=EXAMPLES)
    parser.add_argument("classifier", metavar="CLASSIFIER", help="a file that metavision adapt has made")
    parser.add_argument("--onnx", type=Path, metavar="FILE.onnx", help="as ONNX")
    parser.add_argument("--torch", type=Path, metavar="FILE.pt2", help="as torch.export has it")
    parser.add_argument("--int8", action="store_true", help="weights of linear layers as bytes, by torchao")
    parser.add_argument("--input", choices=("uint8", "float32"), default="uint8", help="bytes, or numbers in [0, 1]")
    parser.add_argument(
        "--support", type=Path, action="append", metavar="FOLDER", help="where its images are (default: looked for)"
    )
    return export(parser.parse_args(words))


def export(asked: argparse.Namespace) -> int:
    """The command; its exit code."""
    wanted = [(asked.onnx, "--onnx", ".onnx"), (asked.torch, "--torch", ".pt2")]
    files = [file for file, _, _ in wanted if file is not None]
    if not files:
        raise InputError("--onnx FILE or --torch FILE is needed: where to, and as what")
    if wrong := [(file, option, ending) for file, option, ending in wanted if file and file.suffix != ending]:
        raise InputError(f"{wrong[0][1]} is {wrong[0][0]}; it must end in {wrong[0][2]}")
    if asked.onnx:
        _there("onnxscript", "onnx", "onnxruntime")

    from metavision.classify.classifier import Classifier
    from metavision.classify.exporting import exporting
    from metavision.classify.originals import places
    from metavision.drafts import reachable

    for file in files:
        reachable(file)
        if file.is_dir():
            raise InputError(f"{file} is a folder; a file is needed")
    classifier = Classifier.load(asked.classifier, "cpu")
    where = places(classifier, Path(asked.classifier), asked.support)
    _tell(exporting.export(classifier, files, where, dtype=asked.input, small=asked.int8))
    return 0


def _tell(made: "Exported") -> None:
    from metavision.console import note

    card, checked = made.card, made.card["checked"]
    if made.missing:
        note(f"{made.missing} images of the support are not at hand; --support FOLDER says where they are")
    shape = ", ".join(map(str, card["input"]["shape"]))
    print(f"input: {card['input']['dtype']} ({shape}); {len(card['classes'])} classes")
    tried = f"{checked['images_of_support']} images of the support and {checked['noise']} of noise"
    print(f"tried on {tried}: probabilities differ by {checked['largest_difference']:.1g} at most")
    if (small := card["int8"]) is not None:
        same, most = 100 * small["same_answer"], small["largest_difference"]
        print(
            f"int8: {small['layers']} layers; {same:.0f} % of these are told the same, probabilities within {most:.2g}"
        )
        for what, key in (("of the support told right", "right_of_support"), ("held out", "held_out")):
            before, after = small[key]
            if after is not None:
                print(f"int8: {what}: {100 * before:.1f} % before, {100 * after:.1f} % after")
    for file in made.files:
        print(f"{file} ({file.stat().st_size / 2**20:.1f} MiB), {file}.json")


def _there(*packages: str) -> None:
    from importlib.util import find_spec

    if lost := [name for name in packages if find_spec(name) is None]:
        raise not_installed("--onnx", *lost)
