"""How many images each class of an episode has, where this varies."""

from typing import NamedTuple

import numpy as np
from scipy.special import gammaincinv

from metavision.data.draws import integers, uniform
from metavision.data.spec import EpisodeSpec

SUPPORT_MOST = 500  # images in the support of an episode as Meta-Dataset draws it
DRAWS = 2  # words for an episode, beside two for each class: its way, and its shot or the share of its support


class Sizes(NamedTuple):
    """Of T episodes with k classes, of which the last are distractors."""

    way: np.ndarray  # (T,) classes with labels
    shot: np.ndarray  # (T, k) support images
    query: np.ndarray  # (T, k)
    present: np.ndarray  # (T, k) bool: whether there are images of it at all


def sizes_of(spec: EpisodeSpec, count: np.ndarray, most: np.ndarray, words: np.ndarray) -> Sizes:
    """The sizes of episodes.

    Args:
        spec: composition.
        count: (T, k) images that the drawn classes have.
        most: (T,) classes that may have labels; fewer than spec.way where a group has no more.
        words: (T, DRAWS + 2 * way) random words.
    """
    of_episode, of_class, of_query = np.split(words, [DRAWS, DRAWS + spec.way], axis=1)
    column = np.arange(count.shape[1])
    way = np.minimum(most, spec.way)
    shot, query = np.full(count.shape, spec.shot), np.full(count.shape, spec.query)
    if spec.sizes != "fixed":
        way = spec.way_min + integers(of_episode[:, 0], way - spec.way_min + 1)
    labelled = column < way[:, None]
    if spec.sizes == "uniform":
        shot[:] = (spec.shot_min + integers(of_episode[:, 1], spec.shot - spec.shot_min + 1))[:, None]
    if spec.sizes == "meta_dataset":
        shot, query = _meta_dataset(spec, count, labelled, uniform(of_episode[:, 1]), uniform(of_class))
    if spec.balance is not None:
        total = query[:, 0] * way
        most = count.shape[1] - spec.distractors
        query = _dirichlet(spec.balance, labelled[:, :most], total, uniform(of_query[:, :most]))
        query = np.pad(query, ((0, 0), (0, spec.distractors)))
        query = np.minimum(query, count - shot - spec.unlabelled)
    return Sizes(way, shot * labelled, query * labelled, labelled | (column >= count.shape[1] - spec.distractors))


def _meta_dataset(
    spec: EpisodeSpec, count: np.ndarray, labelled: np.ndarray, share: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Shots and queries of every class, (T, k) each.

    Reference: Meta-Dataset (Triantafillou et al., 2020), https://arxiv.org/abs/1903.03096, section 3 and appendix A: a
    share of the images, uniform in (0, 1], sets the size of the support; a class has a part of it in proportion to its
    size times exp(u), u uniform in [log 1/2, log 2]. Differs in that a class smaller than others only limits itself.
    """
    smallest = np.where(labelled, count, count.max()).min(1)
    query = np.minimum(spec.query, smallest // 2)[:, None]
    room = np.maximum(count - query - spec.unlabelled, 1)
    total = (np.ceil((1 - share)[:, None] * np.minimum(room, spec.shot)) * labelled).sum(1)
    total = np.minimum(total, SUPPORT_MOST)
    wide = np.ones(count.shape)  # distractors take no part
    wide[:, : weight.shape[1]] = np.exp(np.log(0.5) + weight[:, : count.shape[1]] * np.log(4))
    part = wide * count * labelled
    part /= part.sum(1, keepdims=True)
    extra = np.maximum(total - labelled.sum(1), 0)
    shot = np.floor(part * extra[:, None]).astype(np.int64) + 1
    return np.minimum(shot, np.minimum(room, spec.shot)), np.broadcast_to(query, count.shape).copy()


def _dirichlet(balance: float, labelled: np.ndarray, total: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Queries of every class, (T, way), that sum to total (T,): a draw from the Dirichlet distribution, rounded.

    Gamma variables by their quantiles, so that each takes one random number; the largest remainders are rounded up.
    """
    gamma = np.maximum(gammaincinv(balance, numbers), 1e-300) * labelled
    exact = gamma / gamma.sum(1, keepdims=True) * total[:, None]
    query = np.floor(exact).astype(np.int64)
    rank = np.argsort(np.argsort(query - exact, axis=1, kind="stable"), axis=1)
    return query + (rank < (total - query.sum(1))[:, None])
