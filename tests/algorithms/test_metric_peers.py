"""Metric methods against easyfsl on the same features, and the parts that it has not by their formulas."""

from typing import Any

import numpy as np
import ot
import pytest
import torch
import torch.nn.functional as F
from easyfsl import methods
from easyfsl.modules import MultiHeadAttention
from sklearn.svm import LinearSVC
from torch import nn

from metavision import trees
from metavision.seeds import generator
from metavision.types import Episode, Meta
from tests.algorithms.builds import built
from tests.conftest import toy_tasks

pytestmark = pytest.mark.usefixtures("float64")
TASKS = 6


def logits(algorithm: Any, meta: Meta, episode: Episode) -> torch.Tensor:
    return algorithm.predict(meta, algorithm.adapt(meta, episode.support), episode.query.inputs)


def features(algorithm: Any, meta: Meta) -> nn.Module:
    """The backbone with these parameters as a module, for a peer."""
    module = algorithm.backbone
    module.load_state_dict(trees.select(meta.params, "backbone"))
    return module


def episodes(way: int = 5, shot: int = 2) -> list[Episode]:
    tasks = toy_tasks(tasks=TASKS, way=way, shot=shot, query=10)
    return [trees.index(tasks, t) for t in range(TASKS)]


@torch.no_grad()
def agreement(algorithm: Any, meta: Meta, peer: Any) -> float:
    """The fraction of queries of which both say the same class."""
    same = []
    for episode in episodes():
        peer.process_support_set(episode.support.x, episode.support.y)
        if isinstance(peer, methods.MatchingNetworks):  # holds its labels in single precision
            peer.one_hot_support_labels = peer.one_hot_support_labels.double()
        same.append(logits(algorithm, meta, episode).argmax(-1) == peer(episode.query.x).argmax(-1))
    return float(torch.cat(same).double().mean())


def test_protonet_is_easyfsls() -> None:
    algorithm = built("protonet", "norm=none", way=5)
    meta = algorithm.init(generator("peers"))
    assert agreement(algorithm, meta, methods.PrototypicalNetworks(features(algorithm, meta))) == 1


@pytest.mark.parametrize("name", ["matchingnet", "matchingnet_fce"])
def test_matchingnet_is_easyfsls(name: str) -> None:
    """Which multiplies with queries as they are, not made to unit length."""
    algorithm = built(name, "norm=none", "algo.normalise_query=false", way=5)
    meta = algorithm.init(generator("peers"))
    d = algorithm.backbone.features
    peer = methods.MatchingNetworks(features(algorithm, meta), feature_dimension=d)
    if name == "matchingnet":  # theirs has full-context embeddings always; these leave all as it is
        peer.encode_support_features = peer.encode_query_features = lambda z: z
    else:
        peer.support_features_encoder.load_state_dict(trees.select(meta.params, "support_reader"))
        peer.query_features_encoding_cell.load_state_dict(trees.select(meta.params, "query_reader"))
    assert agreement(algorithm, meta, peer) >= 0.99


class Maps(nn.Module):
    def __init__(self, inner: nn.Module, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.inner, self.shape = inner, shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x).view(len(x), *self.shape)


def test_relationnet_is_easyfsls() -> None:
    """Which takes means, where the paper takes sums."""
    algorithm = built("relationnet", "norm=none", "algo.pool=mean", way=5)
    meta = algorithm.init(generator("peers"))
    algorithm.relation.load_state_dict(trees.select(meta.params, "relation"))
    maps = Maps(features(algorithm, meta), algorithm.backbone.map)
    peer = methods.RelationNetworks(maps, feature_dimension=4, relation_module=algorithm.relation)
    assert agreement(algorithm, meta, peer) == 1


def test_a_relation_networks_sum_is_shots_times_the_mean_and_its_loss_is_of_squares() -> None:
    episode = episodes(shot=3)[0]
    total, mean = (built("relationnet", "norm=none", f"algo.pool={pool}", way=5) for pool in ("sum", "mean"))
    meta = total.init(generator("peers"))
    torch.testing.assert_close(total.adapt(meta, episode.support).maps, 3 * mean.adapt(meta, episode.support).maps)
    loss, _ = total.score(meta, episode)
    wrong = torch.sigmoid(logits(total, meta, episode)) - F.one_hot(episode.query.y, 5)
    torch.testing.assert_close(loss, wrong.square().mean())


def test_feat_is_easyfsls() -> None:
    algorithm = built("feat", "norm=none", way=5)
    meta = algorithm.init(generator("peers"))
    d = algorithm.backbone.features
    attention = MultiHeadAttention(1, d, d, d).eval()
    ours = trees.select(meta.params, "attention")
    names = {"w_qs": "query", "w_ks": "key", "w_vs": "value", "fc": "out", "layer_norm": "norm"}
    for name, p in attention.named_parameters():
        first, _, last = name.partition(".")
        p.data.copy_(ours[f"{names[first]}.{last}"])
    peer = methods.FEAT(features(algorithm, meta), attention_module=attention)
    assert agreement(algorithm, meta, peer) == 1


def test_feats_balance_written_out() -> None:
    """Each class's examples attend to each other; all are compared with the means of what comes of it."""
    algorithm = built("feat", "norm=none", "algo.balance=0.5", "algo.balance_temperature=3", way=3)
    meta, episode = algorithm.init(generator("balance")), trees.index(toy_tasks(), 0)
    z = algorithm.embed(meta.params, {}, episode.support.inputs), algorithm.embed(meta.params, {}, episode.query.inputs)
    both, y = torch.cat(z), torch.cat([episode.support.y, episode.query.y])
    algorithm.attention.load_state_dict(trees.select(meta.params, "attention"))
    centres = []
    for c in range(3):
        mine = both[y == c]
        centres.append(algorithm.attention(mine, torch.ones(len(mine), len(mine), dtype=torch.bool)).mean(0))
    distances = torch.cdist(both, torch.stack(centres)).square()
    expected = F.cross_entropy(-distances / 3, y)
    plain = F.cross_entropy(logits(algorithm, meta, episode), episode.query.y)
    torch.testing.assert_close(algorithm.score(meta, episode)[0], plain + 0.5 * expected)
    tested = algorithm.for_evaluation()
    torch.testing.assert_close(tested.score(meta, episode)[0], plain)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_metaoptnet_is_a_support_vector_machine() -> None:
    algorithm = built("metaoptnet", "norm=group", "algo.penalty=0.5", way=5)
    meta = algorithm.init(generator("svm"))
    for episode in episodes():
        z = algorithm.embed(meta.params, {}, episode.support.inputs).numpy()
        query = algorithm.embed(meta.params, {}, episode.query.inputs).numpy()
        peer = LinearSVC(multi_class="crammer_singer", C=0.5, fit_intercept=False, tol=1e-10, max_iter=1_000_000)
        theirs = peer.fit(z, episode.support.y.numpy()).decision_function(query)
        np.testing.assert_allclose(logits(algorithm, meta, episode).numpy(), theirs, atol=1e-3 * np.abs(theirs).max())


def test_deepemd_is_a_transport_of_places() -> None:
    """Against POT's linear program, one pair after another."""
    algorithm = built("deepemd", "norm=none", "algo.epsilon=0.001", "algo.iterations=3000", way=3)
    episode = trees.index(toy_tasks(way=3, shot=1, query=2), 0)
    meta = algorithm.init(generator("emd"))
    c, h, w = algorithm.backbone.map
    maps = [
        algorithm.embed(meta.params, {}, part.inputs).view(-1, c, h * w).mT.numpy()
        for part in (episode.support, episode.query)
    ]
    ours = logits(algorithm, meta, episode).numpy()
    for q, query in enumerate(maps[1]):
        for s, support in enumerate(maps[0]):
            a = np.maximum(query @ support.mean(0), 0) + 1e-3
            b = np.maximum(support @ query.mean(0), 0) + 1e-3
            u, v = (m - m.mean(1, keepdims=True) for m in (query, support))
            like = (u @ v.T) / np.outer(np.linalg.norm(u, axis=1), np.linalg.norm(v, axis=1))
            plan = ot.emd(a / a.sum(), b / b.sum(), 1 - like)
            assert ours[q, s] == pytest.approx(12.5 * (plan * like).sum(), abs=0.02)


def test_deepemds_gradient_through_the_plan_is_the_slope() -> None:
    algorithm = built("deepemd", "norm=none", "algo.through_plan=true", "algo.epsilon=0.5", way=3)
    assert algorithm.exact
    episode, meta = trees.index(toy_tasks(shot=1), 0), algorithm.init(generator("emd"))
    leaves = {name: p.clone().requires_grad_() for name, p in meta.params.items()}
    grads = torch.autograd.grad(algorithm.score(Meta(leaves, {}), episode)[0], list(leaves.values()))
    way = {name: torch.randn(p.shape, generator=generator("way", name)) for name, p in meta.params.items()}
    up, down = (
        algorithm.score(Meta(trees.add(meta.params, trees.scale(way, h)), {}), episode)[0] for h in (1e-6, -1e-6)
    )
    slope = torch.stack([(g * w).sum() for g, w in zip(grads, way.values(), strict=True)]).sum()
    torch.testing.assert_close(slope, (up - down) / 2e-6, rtol=1e-5, atol=1e-7)


def test_deepemds_maps_of_several_shots_fit_the_support_better() -> None:
    episode = trees.index(toy_tasks(shot=3), 0)
    plain, refined = (built("deepemd", "norm=none", f"algo.refine={n}", way=3) for n in (0, 30))
    meta = plain.init(generator("emd"))

    def loss(algorithm: Any) -> torch.Tensor:
        out = algorithm.predict(meta, algorithm.adapt(meta, episode.support), episode.support.inputs)
        return F.cross_entropy(out, episode.support.y)

    assert loss(refined) < loss(plain)
