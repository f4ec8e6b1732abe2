"""Kinds of work like those of the benchmarks, small enough for tests."""

from dataclasses import replace

from metavision.bench.work import ADAPT, TRAIN, Work


def small(work: Work) -> Work:
    """With small images, few filters, and few examples, but more than one of each."""
    return replace(work, shape=(work.shape[0], 16, 16), filters=4, way=3, shot=2, query=2, steps=min(work.steps, 3))


def one_of_each(works: tuple[Work, ...]) -> list[Work]:
    """A small one of every method and way to halve."""
    return list({(work.method, work.downsample): small(work) for work in works}.values())


TRAINED, ADAPTED = one_of_each(TRAIN), one_of_each(ADAPT)
