"""`metavision predict`: labels new images with a classifier."""

import argparse
from collections import Counter
from pathlib import Path

from metavision.cli.parser import Parser
from metavision.errors import InputError

SOME_SKIPPED = 3  # exit code
LISTED = 20  # files that could not be read, on stderr; the output has all
EXAMPLES = """examples
  metavision predict flowers.classifier photos/new                       CSV to the standard output
  metavision predict flowers.classifier photos/new --out labels.json --sheet labels.html
  metavision predict flowers.classifier 'photos/**/*.jpg' --out labels.csv --unknown 0.1 --top 5

Files that can't be read have a row with an error and are skipped; the exit code is then 3.
An image is `unknown` where at most a share of images like the support (--unknown) would be as far from all of it.
"""


def main(words: list[str]) -> int:
    parser = Parser(prog="metavision predict", description="Label new images with a classifier.", epilog=EXAMPLES)
    parser.add_argument("classifier", metavar="CLASSIFIER", help="a file that metavision adapt has made")
    parser.add_argument("files", metavar="PHOTOS", nargs="+", help="files, folders, or patterns in quotes")
    parser.add_argument("--out", default="-", metavar="FILE", help="ends in .csv or .json; -: CSV here (the default)")
    parser.add_argument("--sheet", metavar="FILE.html", help="a page with pictures of some hundred answers")
    parser.add_argument(
        "--unknown", type=_share, metavar="SHARE", help="see below; 0: none is (default: the classifier's)"
    )
    parser.add_argument("--top", type=_count, default=3, metavar="K", help="how many likeliest classes; 0: all")
    parser.add_argument(
        "--neighbours", type=_count, default=3, metavar="M", help="how many nearest images of the support"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    return predict(parser.parse_args(words))


def predict(asked: argparse.Namespace) -> int:
    """The command; its exit code."""
    from metavision.classify import streaming, writing
    from metavision.classify.classifier import Classifier
    from metavision.classify.sheet import Sheet
    from metavision.console import note, progress_bar

    out = writing.checked(asked.out)
    if asked.sheet is not None and not asked.sheet.lower().endswith((".html", ".htm")):
        raise InputError(f"--sheet is {asked.sheet}; it must end in .html")
    classifier = Classifier.load(asked.classifier, asked.device)
    total = sum(1 for _ in streaming.found(asked.files))
    if not total:
        raise InputError(f"no images at {', '.join(asked.files)}; files, folders and patterns are taken")
    k = len(classifier.support.classes)
    top, near = min(asked.top or k, k), min(asked.neighbours, len(classifier.support.names))
    told: Counter[str] = Counter()
    sheet = Sheet() if asked.sheet else None
    skipped = 0
    answers = streaming.answers(classifier, streaming.found(asked.files), top=top, nearest=near, unknown=asked.unknown)
    with writing.written(out, top, near) as write, progress_bar("predicting", total, "images") as advance:
        for answer in answers:
            write(answer)
            advance(1)
            if sheet is not None:
                sheet.add(answer)
            if not answer.error:
                told[answer.prediction] += 1
                continue
            skipped += 1
            if skipped <= LISTED:
                note(f"skipped {answer.file}: {answer.error}")
    if skipped > LISTED:
        note(f"skipped {skipped - LISTED} more")
    note(_summary(told, skipped))
    if sheet is not None:
        with writing.whole(Path(asked.sheet)) as file:
            file.write(sheet.page(f"Labels by {Path(asked.classifier).name}", _summary(told, skipped)))
        note(f"sheet: {asked.sheet}")
    return SOME_SKIPPED if skipped else 0


def _summary(told: Counter[str], skipped: int) -> str:
    most = [f"{name} {count:,}" for name, count in told.most_common(10)]
    more = f" and {len(told) - 10} more classes" if len(told) > 10 else ""
    return f"{told.total():,} images: {', '.join(most)}{more}{f'; {skipped:,} skipped' if skipped else ''}."


def _share(word: str) -> float:
    value = float(word)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{word} is no share, from 0 to below 1")
    return value


def _count(word: str) -> int:
    value = int(word)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{word} must not be negative")
    return value
