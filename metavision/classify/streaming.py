"""Files in, answers out, one batch at a time: memory does not grow with their number."""

import glob
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from metavision.classify.classifier import BATCH, Classifier
from metavision.cores import cores
from metavision.data.decode import SUFFIXES
from metavision.data.files import hidden
from metavision.errors import InputError

UNKNOWN = "unknown"  # what is far from all classes


class Answer(NamedTuple):
    """About one file.

    Args:
        file: as it was found.
        prediction: a class's name, or `unknown`; empty where the file could not be read.
        familiar: the share of images like the support that would be as far from it.
        top: (name, probability) of the likeliest classes.
        nearest: (file of the support, cosine) of the nearest images.
        error: why it could not be read.
    """

    file: str
    prediction: str = ""
    familiar: float = float("nan")
    top: tuple[tuple[str, float], ...] = ()
    nearest: tuple[tuple[str, float], ...] = ()
    error: str = ""


def found(given: Sequence[str]) -> Iterator[str]:
    """The files that words mean: a file itself, the images below a folder, what a pattern such as `*.jpg` matches.

    Raises:
        InputError: there is nothing of a name.
    """
    for word in given:
        if Path(word).is_dir():
            yield from _below(word)
        elif Path(word).exists():
            yield word
        else:
            matches = glob.iglob(word, recursive=True)  # noqa: PTH207 - takes absolute patterns, too
            first = next(matches, None)
            if first is None:
                raise InputError(f"there is nothing at {word}; files, folders and patterns such as '*.jpg' are taken")
            for match in (first, *matches):
                yield from _below(match) if Path(match).is_dir() else (match,)


def _below(folder: str) -> Iterator[str]:
    """In the order of names; files that are no images by their ending, and hidden ones, are passed over."""
    for here, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if not hidden(name))
        for name in sorted(names):
            if name.lower().endswith(SUFFIXES) and not hidden(name):
                yield str(Path(here, name))


def answers(
    classifier: Classifier, files: Iterable[str], *, top: int = 3, nearest: int = 3, unknown: float | None = None
) -> Iterator[Answer]:
    """An answer about each file, in their order.

    Args:
        classifier: that answers.
        files: any number.
        top: how many of the likeliest classes are told; 0: all.
        nearest: how many images of the support.
        unknown: an image is called so that at most this share of images like the support would be as far from it; None:
            as the classifier has it.
    """
    limit = classifier.unknown if unknown is None else unknown
    waiting = iter(_read(classifier, files))
    while batch := list(islice(waiting, BATCH)):
        images = [content for _, content in batch if isinstance(content, np.ndarray)]
        told = _told(classifier, np.stack(images), top, nearest, limit) if images else iter(())
        for file, content in batch:
            if isinstance(content, np.ndarray):
                yield next(told)._replace(file=file)
            else:
                yield Answer(file, error=content)


def _told(classifier: Classifier, pixels: np.ndarray, top: int, nearest: int, limit: float) -> Iterator[Answer]:
    found = classifier.answers(torch.from_numpy(pixels), nearest)
    classes, names = classifier.support.classes, classifier.support.names
    best = found.probabilities.topk(min(top or len(classes), len(classes)), dim=1)
    rows = zip(*(part.tolist() for part in (*best, found.cosines, found.nearest, found.familiar)), strict=True)
    for p, which, cosines, near, familiar in rows:
        yield Answer(
            "",
            UNKNOWN if familiar <= limit else classes[which[0]],
            familiar,
            tuple((classes[c], value) for c, value in zip(which, p, strict=True)),
            tuple((names[i], value) for i, value in zip(near, cosines, strict=True)),
        )


def _read(classifier: Classifier, files: Iterable[str]) -> Iterator[tuple[str, np.ndarray | str]]:
    """Pixels of each file, or why there are none; some are decoded ahead, in threads."""

    def decode(file: str) -> np.ndarray | str:
        try:
            return classifier.network.preparing.pixels(Path(file))
        except ValueError as error:
            return " ".join(str(error).split())

    ahead: deque[tuple[str, Future[np.ndarray | str]]] = deque()
    names = iter(files)
    with ThreadPoolExecutor(cores()) as pool:
        try:
            while True:
                ahead.extend((file, pool.submit(decode, file)) for file in islice(names, BATCH + 1 - len(ahead)))
                if not ahead:
                    return
                file, content = ahead.popleft()
                yield file, content.result()
        finally:
            pool.shutdown(cancel_futures=True)
