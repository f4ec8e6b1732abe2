"""Episodes are pure functions of their key, and fair."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from metavision.data.batches import Episodes
from metavision.data.episodes import EpisodeSampler, EpisodeSpec, distinct
from metavision.errors import InputError
from tests.conftest import toy_source

SPEC = EpisodeSpec(5, 2, 3)


class Unreadable:
    """Stands where the pixels are; nobody may look."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"the sampler looked at the pixels: {name}")


def sampler(seed: int = 0, spec: EpisodeSpec = SPEC) -> EpisodeSampler:
    return EpisodeSampler(toy_source(), spec, seed=seed)


def test_an_episode_is_the_same_alone_in_any_batch_and_order() -> None:
    batch = sampler()[[7, 3, 100000, 0]]
    for row, i in enumerate([7, 3, 100000, 0]):
        for ours, theirs in zip(sampler()[i], batch, strict=True):
            np.testing.assert_array_equal(ours, theirs[row])


def test_composition() -> None:
    source = toy_source()
    support, query, classes = sampler()[range(200)]
    assert support.shape == (200, 5, 2) and query.shape == (200, 5, 3)
    images = np.concatenate([support, query], axis=2)
    assert (source.labels[images] == classes[..., None]).all()
    for t in range(200):
        assert len(set(images[t].ravel())) == 25 and len(set(classes[t])) == 5


def test_streams_differ_by_seed_split_and_spec() -> None:
    a = sampler()[range(20)].classes
    assert (a != sampler(seed=1)[range(20)].classes).any()
    val = EpisodeSampler(replace(toy_source(), split="val"), SPEC, seed=0)
    assert (a != val[range(20)].classes).any()
    assert (a != sampler(spec=EpisodeSpec(5, 1, 3))[range(20)].classes).any()


def test_classes_labels_and_images_are_uniform() -> None:
    support, _, classes = sampler()[range(8000)]
    for label in range(5):  # no class has a favourite label
        assert chisquare(np.bincount(classes[:, label], minlength=8)).pvalue > 1e-4
    assert chisquare(np.bincount(support[..., 0].ravel(), minlength=80)).pvalue > 1e-4


def test_draws_are_a_shuffles_first_places() -> None:
    """Against the shuffle written as a loop that stores its places."""
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**63, (300, 6), dtype=np.uint64)
    population = rng.integers(6, 12, (300, 1))
    ours = distinct(words, population)
    for row in range(300):
        places = list(range(population[row, 0]))
        for j in range(6):
            other = j + int(words[row, j]) % (len(places) - j)
            places[j], places[other] = places[other], places[j]
        assert ours[row].tolist() == places[:6]


def test_no_pixel_is_read() -> None:
    source = toy_source()
    _ = source.fingerprint, source.by_class
    object.__setattr__(source, "images", Unreadable())
    assert EpisodeSampler(source, SPEC, seed=0)[0].support.shape == (5, 2)


@pytest.mark.parametrize(
    ("spec", "message"),
    [((9, 1, 1), "9 classes; toy train has 8"), ((5, 8, 3), "11 images a class; class class 0 of toy train has 10")],
)
def test_too_much_asked(spec: tuple[int, int, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sampler(spec=EpisodeSpec(*spec))


@pytest.mark.parametrize("spec", [(1, 1, 1), (5, 0, 1), (5, -1, 1), (5, 1, 0)])
def test_impossible_compositions(spec: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="needs at least"):
        EpisodeSpec(*spec)


def test_batches_hold_the_drawn_pixels() -> None:
    source, draws = toy_source(), sampler()[[4, 2]]
    batch = Episodes(sampler(), torch.device("cpu")).batch([4, 2])
    assert batch.support.x.shape == (2, 10, 1, 16, 16) and batch.query.x.shape == (2, 15, 1, 16, 16)
    expected = torch.from_numpy(source.images[draws.query.reshape(2, -1)]).float() / 255
    assert torch.equal(batch.query.x, expected)
    assert batch.query.y.tolist() == [[0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]] * 2
