"""Leaks between splits."""

from collections.abc import Mapping
from itertools import combinations

from metavision.data.source import Source
from metavision.errors import InputError


def disjoint(sources: Mapping[str, Source]) -> None:
    """Raises InputError where a class is in two splits, unless these are split by images and say so of the class."""
    for (one, a), (other, b) in combinations(sources.items(), 2):
        both = set(a.class_keys) & set(b.class_keys)
        if both and (both := both - (a.known & b.known)):
            raise InputError(
                f"{len(both)} classes of {a.name} are in {one} and in {other}, such as {min(both)}; "
                "test classes must be new to the network"
            )
