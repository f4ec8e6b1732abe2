"""Other normalisation than trained with: what is no statistic stays, and all that normalises does so as asked."""

from dataclasses import replace

import pytest
import torch

from metavision import trees
from metavision.algorithms.base import Algorithm
from metavision.engine.policies import under
from metavision.engine.testing import Contender
from metavision.errors import InputError
from metavision.seeds import generator
from metavision.types import Episode, Examples, Inputs, Meta
from tests.algorithms.builds import built
from tests.conftest import toy_tasks

pytestmark = pytest.mark.usefixtures("float64")


def trained(algorithm: Algorithm, images: torch.Tensor) -> Contender:
    algorithm = algorithm.for_evaluation()
    return Contender(algorithm, algorithm.calibrate(algorithm.init(generator("policies")), images))


@pytest.mark.parametrize("policy", ["batch", "each", "running"])
def test_features_are_centred_under_every_policy(policy: str) -> None:
    images = torch.rand(20, 1, 16, 16)
    before = trained(built("simpleshot", "norm=running"), images)
    other = under(policy, before, lambda: images)
    features = other.algorithm.embed(other.meta.params, other.meta.buffers, Inputs(images))
    torch.testing.assert_close(other.meta.buffers["centre"], features.mean(0))
    assert (policy == "running") == torch.equal(other.meta.buffers["centre"], before.meta.buffers["centre"])


def test_a_rate_that_was_chosen_stays() -> None:
    algorithm, images = built("pmf", "norm=running"), torch.rand(20, 1, 16, 16)
    before = trained(algorithm, images)
    chosen = list(before.algorithm.choices(before.meta).options.values())[-1]
    for policy in ("batch", "each", "running"):
        other = under(policy, replace(before, meta=chosen), lambda: images)
        assert other.meta.buffers["rate"] == chosen.buffers["rate"] and other.algorithm.tuning(other.meta)


def test_of_a_relation_network_queries_by_statistics_of_the_support_are_apart() -> None:
    """Those of the relation module, too."""
    algorithm = built("relationnet", "norm=batch").for_evaluation()
    meta, task = algorithm.init(generator("relation")), trees.index(toy_tasks(), 0)
    alone = task._replace(query=trees.index(task.query, slice(0, 1)))
    for policy in ("support", "each"):
        other = algorithm.normalised(policy)
        torch.testing.assert_close(other.solve(meta, alone), other.solve(meta, task)[:1])
    maps = algorithm.adapt(meta, task.support)
    found = algorithm.normalised("support").for_queries(meta, maps, task.support).buffers
    pairs = algorithm._pairs(algorithm.embed(meta.params, {}, task.support.inputs), maps.maps)
    weights = trees.select(meta.params, "relation")
    out = torch.nn.functional.conv2d(pairs, weights["convs.0.weight"], weights["convs.0.bias"], padding=1)
    torch.testing.assert_close(found["relation.norms.0.mean"], out.mean((0, 2, 3)))
    torch.testing.assert_close(found["relation.norms.0.var"], out.var((0, 2, 3)))


def test_a_relation_networks_calibrated_statistics_are_of_maps_of_one_size() -> None:
    """They are taken of single images, so however many shots there are, a class's map is their mean."""
    algorithm = built("relationnet", "norm=running").for_evaluation()
    (support, query, _) = trees.index(toy_tasks(), 0)
    meta = algorithm.calibrate(algorithm.init(generator("relation")), support.x)
    twice = Examples(torch.cat([support.x] * 2), torch.cat([support.y] * 2))
    once = algorithm.solve(meta, Episode(support, query))
    torch.testing.assert_close(algorithm.solve(meta, Episode(twice, query)), once)
    summed = built("relationnet", "norm=batch")
    with pytest.raises(InputError, match="norm=each has queries apart"):
        under("running", Contender(summed, Meta({}, {})), lambda: support.x)
    under("running", Contender(built("relationnet", "norm=batch", "algo.pool=mean"), meta), lambda: support.x)
