"""Evaluation on features against evaluation on images, and folded normalisation against plain."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from metavision import build, trees
from metavision.algorithms import base
from metavision.algorithms.base import Algorithm
from metavision.data.batches import Episodes
from metavision.data.episodes import EpisodeSampler
from metavision.data.images import Images
from metavision.data.resident import resident
from metavision.data.spec import EpisodeSpec
from metavision.engine import embedding
from metavision.engine.embedding import Embedder, embeddable
from metavision.engine.evaluate import Scores, evaluate
from metavision.engine.fitting import Wanted, fitted
from metavision.engine.mapping import Mapper
from metavision.functional.distances import squared_euclidean
from metavision.nn import functional
from metavision.nn.folding import folded
from metavision.seeds import generator
from metavision.types import Episode, Examples, Inputs, Meta
from tests.algorithms.builds import NAMES, built, composed
from tests.conftest import toy_source

FROZEN = [name for name in NAMES if built(name).frozen]


def episodes(**options: int) -> Episodes:
    source = toy_source(classes=6, images=12)
    sampler = EpisodeSampler(source, EpisodeSpec(**{"way": 3, "shot": 2, "query": 3, **options}), seed=0)
    return Episodes(sampler, Images(resident(source, torch.device("cpu"))))


def calibrated(name: str, norm: str = "running") -> tuple[Algorithm, Meta]:
    algorithm = built(name, f"norm={norm}").for_evaluation()
    meta = algorithm.init(generator("embedding"))
    return algorithm, algorithm.calibrate(meta, episodes().pool(40))


def loop(*_: object) -> Mapper:
    return Mapper("loop")


def on_images(algorithm: Algorithm, meta: Meta, tasks: Episodes, n: int, monkeypatch: pytest.MonkeyPatch) -> Scores:
    with monkeypatch.context() as context:
        context.setattr("metavision.engine.evaluate.embeddable", lambda _: False)
        return evaluate(algorithm, meta, tasks, n, loop, details=True)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("norm", ["running", "group"])
@pytest.mark.parametrize("name", FROZEN)
def test_features_give_the_scores_that_images_give(name: str, norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm, meta = calibrated(name, norm)
    read = []
    embed = embedding._features
    monkeypatch.setattr(embedding, "_features", lambda *args, **options: read.append(1) or embed(*args, **options))
    found = evaluate(algorithm, meta, episodes(), 20, loop, details=True)
    assert read  # the split was embedded
    plain = on_images(algorithm, meta, episodes(), 20, monkeypatch)
    for ours, theirs in zip(found[:2], plain[:2], strict=True):
        assert ours.keys() == theirs.keys()
        for key in ours:
            np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", FROZEN)
def test_a_mapping_is_chosen_for_features_in_bf16(name: str) -> None:
    """In a trial run, which is under autocast, too: features in bfloat16 met a solution in float32."""
    algorithm, meta = calibrated(name)
    algorithm, meta, tasks = Embedder()(algorithm, meta, episodes(), autocast=True)
    fitted(algorithm, meta, tasks.batch(range(1)), Wanted(autocast=True), train=False)


def test_who_moves_the_backbone_or_normalises_by_batch_is_not_embedded() -> None:
    for name in NAMES:
        assert not embeddable(built(name, "norm=batch"))
        if built(name).before_adaptation() is not None:
            assert not embeddable(built(name, "norm=group"))
    assert len(FROZEN) >= 19


def test_a_split_is_embedded_once_for_the_same_weights_and_anew_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm, meta = calibrated("protonet")
    times: list[int] = []
    features = embedding._features
    monkeypatch.setattr(embedding, "_features", lambda *args, **options: times.append(1) or features(*args, **options))
    embedder = Embedder(keep=2)
    for shot in (1, 2, 3):
        evaluate(algorithm, meta, episodes(shot=shot), 20, loop, embedder=embedder)
    assert len(times) == 1
    other = Meta(trees.scale(meta.params, 1.1), meta.buffers)
    evaluate(algorithm, other, episodes(), 20, loop, embedder=embedder)
    shifted = Meta(meta.params, {name: t + 0.1 for name, t in meta.buffers.items()})
    evaluate(algorithm, shifted, episodes(), 20, loop, embedder=embedder)
    assert len(times) == 3
    evaluate(algorithm, meta, episodes(), 20, loop, embedder=embedder)  # no longer kept
    assert len(times) == 4


def test_few_episodes_are_not_worth_a_split(monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm, meta = calibrated("protonet")
    monkeypatch.setattr(embedding, "_features", None)
    evaluate(algorithm, meta, episodes(), 4, loop)  # 4 * 3 * 5 = 60 of 72 images


BACKBONES = ("conv4", "conv4_map", "resnet12", "resnet18", "wrn28", "conv512")


@pytest.mark.parametrize("name", BACKBONES)
def test_folded_normalisation_is_the_same_function(name: str) -> None:
    torch.set_default_dtype(torch.float64)
    backbone = build.backbone(composed(f"backbone={name}"), (1, 16, 16)).eval()
    params = functional.initial(backbone, generator("folding"))
    params = {key: p + 0.1 * torch.randn(p.shape, generator=generator(key)) for key, p in params.items()}
    x = torch.rand(6, 1, 16, 16, generator=generator("x"))
    buffers = functional.calibrate(backbone, params, x)
    thin, weights, rest = folded(backbone, params, buffers, x[:2])
    assert len(rest) < len(buffers)  # something was folded
    plain = functional.apply(backbone, params, buffers, Inputs(x))
    torch.testing.assert_close(functional.apply(thin, weights, rest, Inputs(x)), plain, rtol=1e-9, atol=1e-9)


def test_maps_that_go_elsewhere_too_are_not_folded() -> None:
    from torch import nn

    from metavision.nn.normalisation import Norm

    class Branched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 4, 3), Norm(4)

        def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
            maps = self.conv(x)
            return (maps + self.norm(maps, mask)).flatten(1)

    module, x = Branched(), torch.rand(3, 1, 6, 6, generator=generator("x"))
    params = functional.initial(module, generator("branched"))
    buffers = functional.calibrate(module, params, x)
    assert folded(module, params, buffers, x)[0] is module


def test_distances_are_those_of_differences_even_far_from_the_middle() -> None:
    g = generator("points")
    a, b = (1e3 + torch.randn(n, 64, generator=g) for n in (20, 5))
    exact = (a.double().unsqueeze(1) - b.double()).square().sum(-1)
    torch.testing.assert_close(squared_euclidean(a, b).double(), exact, rtol=1e-4, atol=1e-4)


def test_statistics_of_the_support_make_queries_independent() -> None:
    """By `normalised("support")` a query's answer is the same alone and among others; by `batch` it is not."""
    torch.set_default_dtype(torch.float64)
    for name in [n for n in NAMES if built(n).before_adaptation() is not None and built(n).diet == "episodes"]:
        algorithm = built(name, "norm=batch").for_evaluation()
        meta = algorithm.calibrate(algorithm.init(generator("support")), episodes().pool(20))
        task = trees.index(episodes().batch([0]), 0)
        alone = task._replace(query=trees.index(task.query, slice(0, 1)))
        by_support = algorithm.normalised("support")
        assert not by_support.transductive or by_support.uses_queries
        together = by_support.solve(meta, task)
        torch.testing.assert_close(by_support.solve(meta, alone), together[:1], rtol=1e-9, atol=1e-9)
        assert not torch.allclose(algorithm.solve(meta, alone), algorithm.solve(meta, task)[:1])
        # The support itself is normalised as in adaptation, but for the variance being unbiased: little moves.
        asked = task._replace(query=task.support)
        torch.testing.assert_close(by_support.solve(meta, asked), algorithm.solve(meta, asked), rtol=0.2, atol=0.2)
        assert replace(by_support).backbone.norm == "support"


def test_each_query_may_share_moments_with_the_support_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """By `normalised("each")` it is the last of a batch with the support, whatever is asked besides, mapped or not."""
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr(base, "AT_ONCE", 4)  # of nine queries
    algorithms = {name: built(name, "norm=batch").for_evaluation() for name in NAMES}
    for name, algorithm in algorithms.items():
        if algorithm.uses_queries:
            continue
        meta = algorithm.init(generator("each"))
        task = trees.index(episodes().batch([0]), 0)
        fast = algorithm.adapt(meta, task.support)
        expected = torch.stack(
            [
                algorithm.predict(meta, fast, Inputs(torch.cat([task.support.x, image.unsqueeze(0)])))[-1]
                for image in task.query.x
            ]
        )
        each = algorithm.normalised("each")
        assert not each.transductive and not torch.allclose(algorithm.solve(meta, task), expected), name
        torch.testing.assert_close(each.solve(meta, task), expected, rtol=1e-9, atol=1e-9)

        def solved(*given: torch.Tensor, each: Algorithm = each, meta: Meta = meta) -> torch.Tensor:
            return each.solve(meta, Episode(Examples(*given[:2]), Examples(*given[2:])))

        mapped = torch.vmap(solved)(*trees.tensors(episodes().batch([0, 1])))
        torch.testing.assert_close(mapped[0], expected, rtol=1e-9, atol=1e-9)
        alone = task._replace(query=trees.index(task.query, slice(2, 3)))
        torch.testing.assert_close(each.solve(meta, alone), expected[2:3], rtol=1e-9, atol=1e-9)


def test_networks_that_differ_in_what_no_weight_shows_have_keys_of_their_own() -> None:
    """Two ViTs of as many weights: four heads are not two."""
    keys = set()
    for heads in (2, 4):
        backbone = build.backbone(composed("backbone=vit_small_32", f"backbone.heads={heads}"), (1, 16, 16))
        algorithm = replace(built("protonet"), backbone=backbone)
        meta = algorithm.init(generator("same"))
        keys.add(embedding._key(algorithm, meta, episodes(), autocast=False))
    assert len(keys) == 2


def test_what_does_not_fit_is_not_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm, meta = calibrated("protonet")
    monkeypatch.setattr(embedding, "MEMORY", 10)
    monkeypatch.setattr(embedding, "_features", None)
    evaluate(algorithm, meta, episodes(), 20, loop)
