"""Prototypical networks against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestCentroid

from metavision import trees
from metavision.algorithms.protonet import ProtoNet
from metavision.backbones.pixels import Pixels
from metavision.problems.classification import Classification
from metavision.seeds import generator
from metavision.types import Meta
from tests.algorithms.builds import built
from tests.conftest import toy_tasks


@pytest.mark.usefixtures("float64")
def test_on_pixels_it_is_the_nearest_centroid() -> None:
    algorithm = ProtoNet(backbone=Pixels((1, 16, 16)), problem=Classification(4))
    for t in range(5):
        support, query, _ = trees.index(toy_tasks(tasks=5, way=4, shot=3, query=5), t)
        meta = Meta({}, {})
        ours = algorithm.predict(meta, algorithm.adapt(meta, support), query.inputs).argmax(-1)
        peer = NearestCentroid().fit(support.x.flatten(1).numpy(), support.y.numpy())
        np.testing.assert_array_equal(ours.numpy(), peer.predict(query.x.flatten(1).numpy()))


@pytest.mark.usefixtures("float64")
def test_logits_are_minus_squared_distances() -> None:
    algorithm = ProtoNet(backbone=Pixels((1, 16, 16)), problem=Classification(3))
    support, query, _ = trees.index(toy_tasks(), 0)
    means = torch.stack([support.x[support.y == c].flatten(1).mean(0) for c in range(3)])
    expected = -(torch.cdist(query.x.flatten(1), means) ** 2)
    meta = Meta({}, {})
    torch.testing.assert_close(algorithm.predict(meta, algorithm.adapt(meta, support), query.inputs), expected)


@pytest.mark.usefixtures("float64")
def test_protomaml_without_steps_is_a_prototypical_network() -> None:
    proto, maml = built("protonet", "norm=none"), built("protomaml", "norm=none", "algo.steps=0")
    meta, episode = proto.init(generator("same")), trees.index(toy_tasks(), 0)
    ours = maml.predict(meta, maml.adapt(meta, episode.support), episode.query.inputs)
    theirs = proto.predict(meta, proto.adapt(meta, episode.support), episode.query.inputs)
    torch.testing.assert_close(ours.log_softmax(-1), theirs.log_softmax(-1), rtol=1e-9, atol=1e-12)
    stepped = built("protomaml", "norm=none", "algo.steps=2", "algo.rule.lr=0.1")
    assert not torch.allclose(stepped.predict(meta, stepped.adapt(meta, episode.support), episode.query.inputs), ours)
