"""The laws that every algorithm obeys, in double precision."""

import pytest
import torch

from metavision import trees
from metavision.algorithms.base import Algorithm
from metavision.engine.fitting import Wanted, candidates
from metavision.engine.mapping import Mapper
from metavision.seeds import generator
from metavision.types import Episode, Examples, Meta, Metrics, P
from tests.algorithms.builds import NAMES, built, food, score, smooth
from tests.conftest import toy_tasks

pytestmark = pytest.mark.usefixtures("float64")
POLICIES = ("batch", "running", "group", "none")
STRATEGIES = (
    Mapper("loop", channels_last=True, explicit=True),
    Mapper("loop", recompute=True),
    Mapper("vmap", 2),
    Mapper("vmap", 3),
    Mapper("vmap", 2, explicit=True),
    Mapper("vmap", 3, explicit=True),
)


def calibrated(algorithm: Algorithm, meta: Meta) -> Meta:
    return algorithm.calibrate(meta, toy_tasks(tasks=4).support.x.flatten(0, 1))


def one(tasks: Episode, t: int = 0) -> Episode:
    return trees.index(tasks, t)


def logits(algorithm: Algorithm, meta: Meta, episode: Episode) -> torch.Tensor:
    unlabelled = episode.query.inputs if algorithm.uses_queries else None
    return algorithm.predict(meta, algorithm.adapt(meta, episode.support, unlabelled), episode.query.inputs)


def padded(examples: Examples, rows: int) -> Examples:
    """The examples with rows of rubbish behind them, masked out."""
    n = len(examples.y)
    x = torch.cat([examples.x, 7 * torch.ones(rows, *examples.x.shape[1:])])
    y = torch.cat([examples.y, torch.zeros(rows, dtype=torch.int64)])
    return Examples(x, y, torch.arange(n + rows) < n)


@pytest.mark.parametrize("norm", POLICIES)
@pytest.mark.parametrize("name", NAMES)
def test_every_mapping_gives_the_same_gradient(name: str, norm: str) -> None:
    tasks, algorithm = toy_tasks(tasks=3), smooth(name, f"norm={norm}")
    meta, tasks = algorithm.init(generator("laws")), food(algorithm, tasks)
    loop, logs = algorithm.meta_grad(meta, tasks, Mapper("loop"))
    assert {k: g.shape for k, g in loop.items()} == {k: p.shape for k, p in meta.params.items()}
    assert trees.norm(loop) > 0
    offered = candidates(algorithm, meta, trees.index(tasks, slice(0, 1)), Wanted())
    for mapper in (*STRATEGIES, *(mapper for mapper in offered if mapper.strategy == "vmap")):
        other, other_logs = algorithm.meta_grad(meta, tasks, mapper)
        assert trees.norm(trees.add(other, trees.scale(loop, -1.0))) <= 1e-10 * trees.norm(loop), mapper
        for key in loop:
            torch.testing.assert_close(other[key], loop[key], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(other_logs, logs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_every_mapping_gives_the_same_scores(name: str) -> None:
    """With test-time settings, where sizes vary."""
    algorithm, tasks = smooth(name).for_evaluation(), toy_tasks(tasks=3)
    meta = calibrated(algorithm, algorithm.init(generator("laws")))
    parts = [trees.stack([padded(trees.index(part, t), 2) for t in range(3)]) for part in tasks[:2]]
    varied = Episode(*parts)

    def scores(params: P, episode: Episode) -> Metrics:
        loss, metrics = algorithm.score(Meta(params, meta.buffers), episode)
        return {"loss": loss, **metrics}

    loop = Mapper("loop").map(scores, meta.params, varied)
    for mapper in (Mapper("vmap", 2), Mapper("vmap", 3, explicit=True)):
        torch.testing.assert_close(mapper.map(scores, meta.params, varied), loop, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_the_slope_of_the_loss(name: str) -> None:
    # Strong slopes everywhere, and small inner steps: no ReLU kink is near for so small a step in a random direction.
    tasks, inner = toy_tasks(tasks=2), hasattr(built(name), "rule")
    algorithm = built(name, *(["algo.rule.lr=0.01"] if inner else []))
    if not algorithm.exact:
        pytest.skip(f"the meta-gradient of {name} is not the slope, by intention; it has a test of its own")
    meta, tasks = algorithm.init(generator("laws")), food(algorithm, tasks)
    grads, _ = algorithm.meta_grad(meta, tasks, Mapper("loop"))
    g = generator("direction")
    direction = {name: torch.randn(p.shape, generator=g) for name, p in meta.params.items()}

    def loss(t: float) -> torch.Tensor:
        params = trees.add(meta.params, trees.scale(direction, t))
        return torch.stack([score(algorithm, Meta(params, {}), one(tasks, i))[0] for i in range(2)]).mean()

    h = 1e-7
    slope = (loss(h) - loss(-h)) / (2 * h)
    expected = torch.stack([(grads[key] * direction[key]).sum() for key in grads]).sum()
    torch.testing.assert_close(slope, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_init_is_a_function_of_its_generator(name: str) -> None:
    algorithm = built(name)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    a, b, c = (algorithm.init(generator("init", seed)).params for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert any(not torch.equal(a[key], c[key]) for key in a)


@pytest.mark.parametrize("name", NAMES)
def test_functions_are_pure(name: str) -> None:
    algorithm, tasks = built(name), toy_tasks(tasks=2)
    meta = calibrated(algorithm, algorithm.init(generator("laws")))
    tasks = food(algorithm, tasks)
    kept = {key: p.clone() for key, p in {**meta.params, **meta.buffers}.items()}
    first = algorithm.meta_grad(meta, tasks, Mapper("loop"))
    second = algorithm.meta_grad(meta, tasks, Mapper("loop"))
    assert all(torch.equal(first[0][key], second[0][key]) for key in first[0])
    assert all(torch.equal(p, kept[key]) for key, p in {**meta.params, **meta.buffers}.items())


@pytest.mark.parametrize("norm", POLICIES)
@pytest.mark.parametrize("name", NAMES)
def test_queries_see_each_other_where_declared_and_nowhere_else(name: str, norm: str) -> None:
    algorithm, episode = built(name, f"norm={norm}"), one(toy_tasks(query=4))
    meta = calibrated(algorithm, algorithm.init(generator("laws")))
    together = logits(algorithm, meta, episode)
    alone = torch.cat(
        [
            logits(algorithm, meta, episode._replace(query=trees.index(episode.query, slice(i, i + 1))))
            for i in range(12)
        ]
    )
    assert torch.allclose(together, alone, rtol=1e-9, atol=1e-12) is not algorithm.transductive


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_support_and_query_is_immaterial(name: str) -> None:
    algorithm, episode = built(name), one(toy_tasks())
    meta = algorithm.init(generator("laws"))
    if algorithm.ordered:
        pytest.skip(f"{name} reads its support in order, by intention")
    s, q = torch.randperm(6, generator=generator("s")), torch.randperm(9, generator=generator("q"))
    moved = Episode(
        Examples(episode.support.x[s], episode.support.y[s]), Examples(episode.query.x[q], episode.query.y[q])
    )
    torch.testing.assert_close(
        logits(algorithm, meta, moved), logits(algorithm, meta, episode)[q], rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("norm", POLICIES)
@pytest.mark.parametrize("name", NAMES)
def test_padding_is_immaterial(name: str, norm: str) -> None:
    algorithm, episode = built(name, f"norm={norm}"), one(toy_tasks())
    meta = algorithm.init(generator("laws"))
    loss, metrics = algorithm.score(meta, episode)
    more = Episode(padded(episode.support, 2), padded(episode.query, 5))
    torch.testing.assert_close(algorithm.score(meta, more), (loss, metrics), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("name", NAMES)
def test_classes_that_an_episode_lacks_change_nothing(name: str, norm: str) -> None:
    """An episode of 3 classes among 5 that were possible is an episode of 3."""
    few, more = (built(name, f"norm={norm}", way=way) for way in (3, 5))
    meta = few.init(generator("laws"))
    if meta.params.keys() != (other := more.init(generator("laws"))).params.keys() or any(
        p.shape != other.params[key].shape for key, p in meta.params.items()
    ):
        pytest.skip(f"{name} has an output for each class")
    episode = one(toy_tasks())
    varied = Episode(padded(episode.support, 2), padded(episode.query, 1))
    loss, metrics = few.score(meta, varied)
    torch.testing.assert_close(more.score(meta, varied), (loss, metrics), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_descending_the_gradient_lowers_the_loss(name: str) -> None:
    """By a rate that suits the scale of its losses."""
    algorithm = built(name)
    tasks, best = food(algorithm, toy_tasks()), float("inf")
    for rate in (0.05, 1.0, 10.0):
        meta, losses = algorithm.init(generator("laws")), []
        for _ in range(15):
            grads, logs = algorithm.meta_grad(meta, tasks, Mapper("loop"))
            losses.append(float(logs["loss"]))
            meta = Meta(trees.add(meta.params, trees.scale(grads, -rate)), {})
        if (best := losses[-1] / losses[0]) < 0.9:
            break
    assert best < 0.9


@pytest.mark.parametrize("name", NAMES)
def test_without_adaptation_accuracy_is_chance(name: str) -> None:
    algorithm = built(name).before_adaptation()
    if algorithm is None:
        pytest.skip(f"{name} has no inner loop")
    tasks = toy_tasks(tasks=400, way=3, shot=1, query=2, size=16)
    # Labels in random order, as the sampler gives them: here the tasks' classes are random pictures.
    meta = algorithm.init(generator("laws"))
    accuracy = torch.stack([algorithm.score(meta, one(tasks, t))[1]["accuracy"] for t in range(400)])
    assert abs(accuracy.mean() - 1 / 3) < 3 * accuracy.std() / 20
