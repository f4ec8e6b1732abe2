"""Random numbers that are functions of a counter, and draws made of them, for many episodes at once."""

import numpy as np


def random_words(key: int, indices: np.ndarray, n: int) -> np.ndarray:
    """n random 64-bit words for every index, (len(indices), n) uint64: a counter hashed by SplitMix64.

    Reference: Fast Splittable Pseudorandom Number Generators (Steele, Lea and Flood, 2014). Counter-based, because any
    episode must be had without drawing those before it, and many at once without a loop.
    """
    with np.errstate(over="ignore"):
        streams = _mix(indices.astype(np.uint64) + _mix(np.array([key], dtype=np.uint64)))
        return _mix(streams[:, None] + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def uniform(words: np.ndarray) -> np.ndarray:
    """Words as numbers in [0, 1), float64, of all its 53 bits."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def integers(words: np.ndarray, n: np.ndarray | int) -> np.ndarray:
    """Words as whole numbers in [0, n), n >= 1; the bias of the remainder is below 2^-40 for n under 2^24."""
    return (words % np.asarray(n).astype(np.uint64)).astype(np.int64)


def distinct(words: np.ndarray, population: np.ndarray) -> np.ndarray:
    """Ordered draws without replacement: words (B, n), population (B, 1) -> (B, n) distinct numbers in [0, population).

    The first n rounds of a Fisher-Yates shuffle: round j swaps place j with place j + word mod (population - j). A row
    touches at most 2 n places, whatever the population, so only these are kept, sorted, in one table for all rows.
    Where n is above the population, only the first `population` numbers mean anything.
    """
    rows, n = words.shape
    rounds = np.arange(n)
    places = rounds + integers(words, np.maximum(population - rounds, 1))
    offset = np.arange(rows)[:, None] * (int(places.max(initial=0)) + 1)  # tells the rows apart in the table
    both = np.concatenate([np.broadcast_to(rounds, places.shape), places], axis=1) + offset
    table = np.sort(both, axis=1).ravel()
    where = np.searchsorted(table, both).T.copy()
    drawn = np.empty_like(where[:n])
    for j in range(n):
        drawn[j] = table[where[n + j]]
        table[where[n + j]] = table[where[j]]
    return drawn.T - offset
