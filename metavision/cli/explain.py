"""`metavision explain`: why a classifier tells of an image what it does."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from metavision.cli.parser import Parser
from metavision.errors import InputError, suggestion

if TYPE_CHECKING:  # help must not wait for torch
    from metavision.classify.classifier import Classifier
    from metavision.classify.explaining.explanation import Explanation
    from metavision.classify.originals import Originals

MOST = 200  # images, which are held in memory, and each of which takes about a second
STRONGEST = 3  # images of the support that are told of in a line
EXAMPLES = """examples
  metavision explain flowers.classifier photos/new/a.jpg                     into the folder explanation
  metavision explain flowers.classifier 'photos/new/*.jpg' --out why --support photos/flowers
  metavision explain flowers.classifier a.jpg --class daisy                  why (not) daisy

Of every image: what each image of the support adds to the answer (exact for prototypes, ridge, logistic regression and
ProtoNet), what the answer would be without it, and where in the image the evidence is (integrated gradients).
"""


def main(words: list[str]) -> int:
    parser = Parser(prog="metavision explain", description="Show what a classifier's answers rest on.", epilog=EXAMPLES)
    parser.add_argument("classifier", metavar="CLASSIFIER", help="a file that metavision adapt has made")
    parser.add_argument("files", metavar="IMAGES", nargs="+", help="files, folders, or patterns in quotes")
    parser.add_argument("--out", type=Path, default=Path("explanation"), metavar="FOLDER", help="for page and pictures")
    parser.add_argument("--class", dest="about", metavar="NAME", help="that is explained (default: the likeliest)")
    parser.add_argument(
        "--support", type=Path, action="append", metavar="FOLDER", help="where its images are (default: looked for)"
    )
    parser.add_argument("--most", type=_count, default=30, metavar="M", help="images of the support that are told of")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    return explain(parser.parse_args(words))


def explain(asked: argparse.Namespace) -> int:
    """The command; its exit code."""
    from metavision.classify import streaming
    from metavision.classify.classifier import Classifier
    from metavision.classify.explaining import page
    from metavision.classify.explaining.explanation import explanations
    from metavision.classify.explaining.saliency import integrated_gradients
    from metavision.classify.originals import originals, places
    from metavision.drafts import drafts_of, reachable

    integrated_gradients()  # is it there?
    if asked.out.exists() and not asked.out.is_dir():
        raise InputError(f"--out {asked.out} is a file; a folder is needed")
    reachable(asked.out)
    classifier = Classifier.load(asked.classifier, asked.device)
    classes, files = classifier.support.classes, list(streaming.found(asked.files))
    if asked.about is not None and asked.about not in classes:
        raise InputError(f"there is no class {asked.about}{suggestion(asked.about, classes)}")
    if not 0 < len(files) <= MOST:
        raise InputError(f"{len(files):,} images at {', '.join(asked.files)}; 1 to {MOST} can be explained at once")
    where = places(classifier, Path(asked.classifier), asked.support)
    about = None if asked.about is None else classes.index(asked.about)
    found = explanations(classifier, files, about, asked.most)
    rows = sorted({witness.row for one in found for witness in one.witnesses})
    pictures = originals(classifier, rows, where)
    with drafts_of(asked.out) as folder:
        page.write(folder, classifier, found, pictures, f"Why {Path(asked.classifier).name} says so")
    _tell(classifier, found, pictures, asked.out)
    return 0


def _tell(classifier: "Classifier", found: "Sequence[Explanation]", pictures: "Originals", out: Path) -> None:
    from metavision.classify.explaining import page
    from metavision.console import note

    classes, names = classifier.support.classes, classifier.support.names
    for one in found:
        about = f"{classes[one.explained]} {100 * float(one.probabilities[one.explained]):.0f} %"
        print(f"{one.file}: {page.prediction(classifier, one)}; {about}")
        numbers = [(w.influence if w.contribution is None else w.contribution, names[w.row]) for w in one.witnesses]
        told = [(number, name) for number, name in numbers if number is not None]
        for word, some in (("for", told[:STRONGEST]), ("against", told[::-1][:STRONGEST])):
            if right := [f"{name} {number:+.2f}" for number, name in some if (number > 0) == (word == "for")]:
                print(f"  {word}: {', '.join(right)}")
    if pictures.missing:
        where = f", looked for in {', '.join(pictures.places)}" if pictures.places else ""
        note(f"{len(pictures.missing)} pictures of the support are not there{where}; --support says where they are")
    if pictures.changed:
        note(f"other pictures now than the classifier was made of: {', '.join(pictures.changed[:STRONGEST])}")
    print(f"page: {out / page.PAGE}")


def _count(word: str) -> int:
    value = int(word)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{word} must be at least 1")
    return value
