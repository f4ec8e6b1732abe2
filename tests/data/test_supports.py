"""Tasks with other supports: the same classes and queries, and every other image as likely as any."""

import numpy as np
import pytest

from metavision.data.episodes import EpisodeSampler
from metavision.data.spec import EpisodeSpec
from metavision.data.supports import Supports
from metavision.errors import InputError
from tests.conftest import toy_source

EACH = 40


def samplers(**options: object) -> tuple[EpisodeSampler, Supports]:
    spec = EpisodeSpec(**{"way": 3, "shot": 2, "query": 4, **options})
    base = EpisodeSampler(toy_source(classes=6, images=12), spec, seed=0)
    return base, Supports(base, EACH)


def test_queries_stay_and_supports_are_drawn_from_the_rest() -> None:
    base, supports = samplers()
    labels = base.source.labels
    for task in range(5):
        own, again = base[task], supports[range(task * EACH, (task + 1) * EACH)]
        assert (again.query.image == own.query.image).all() and (again.query.label == own.query.label).all()
        assert (again.classes == own.classes).all()
        np.testing.assert_array_equal(again.support.image[0], own.support.image)
        for image in again.support.image:
            assert len(set(image)) == 6 and not set(image) & set(own.query.image)
            np.testing.assert_array_equal(labels[image], own.classes[own.support.label])
        assert len({tuple(image) for image in again.support.image}) > EACH / 2


def test_a_support_is_a_function_of_its_number() -> None:
    _, supports = samplers()
    many = supports[[7, 3, 55]]
    for place, i in enumerate((7, 3, 55)):
        np.testing.assert_array_equal(supports[[i]].support.image[0], many.support.image[place])


def test_every_image_that_is_not_asked_about_is_as_likely() -> None:
    base, _ = samplers()
    supports = Supports(base, 4001)
    own, drawn = base[0], supports[range(1, 4001)].support.image.reshape(4000, 3, 2)
    for c in range(3):
        images, counts = np.unique(drawn[:, c], return_counts=True)
        free = set(np.flatnonzero(base.source.labels == own.classes[c])) - set(own.query.image)
        assert set(images) == free
        expected = 2 * 4000 / len(free)
        assert (np.abs(counts - expected) < 5 * expected**0.5).all()


def test_episodes_that_leave_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="there is no other support"):
        samplers(shot=8)  # and 4 queries, of 12 images


def test_varied_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="supports=40 takes episodes of fixed sizes"):
        samplers(sizes="uniform", way_min=2, shot_min=1)
