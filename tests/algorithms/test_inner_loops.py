"""MAML's descendants against their papers' formulas and learn2learn."""

import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from metavision import build, trees
from metavision.engine.mapping import Mapper
from metavision.errors import InputError
from metavision.seeds import generator
from metavision.types import Episode, Examples, Meta
from tests.algorithms.builds import built, composed
from tests.algorithms.test_maml import Net, learn2learn, outer_loss
from tests.conftest import toy_tasks

pytestmark = pytest.mark.usefixtures("float64")
Params = dict[str, torch.Tensor]


def spread(params: Params, prefix: str, by: float) -> Params:
    """The parameters, those under a prefix moved at random, so that none stands for another."""
    g = generator("spread")
    return {
        name: p + by * torch.randn(p.shape, generator=g) if name.startswith(prefix) else p for name, p in params.items()
    }


@pytest.mark.parametrize("name", ["maml", "anil", "boil", "mamlpp", "cavia", "protomaml"])
def test_first_order_takes_what_the_inner_loop_adds_for_a_constant(name: str) -> None:
    algorithm, tasks = built(name, "algo.first_order=true", "algo.steps=2", "algo.rule.lr=0.3"), toy_tasks(tasks=1)
    if name == "mamlpp":
        algorithm = algorithm.at(1.0)  # the last loss alone
    meta, episode = algorithm.init(generator("fo")), trees.index(tasks, 0)
    ours, _ = algorithm.meta_grad(meta, tasks, Mapper("loop"))
    start, end = algorithm.before(meta, episode.support), algorithm.adapt(meta, episode.support)
    added = {key: (end[key] - start[key]).detach() for key in end}
    leaves = {key: p.clone().requires_grad_() for key, p in meta.params.items()}
    begun = algorithm.before(Meta(leaves, {}), episode.support)
    moved = {key: begun[key] + added[key] for key in end}
    out = algorithm.predict(Meta(leaves, {}), moved, episode.query.inputs)
    loss = F.cross_entropy(out, episode.query.y)
    expected = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
    for (key, gradient), want in zip(ours.items(), expected, strict=True):
        if not key.startswith("rule."):  # learned rates have a slope of first order
            torch.testing.assert_close(gradient, want, rtol=0, atol=1e-10, msg=key)


def test_cavia_finds_the_channels_of_every_layer_of_every_backbone() -> None:
    for words, layers in {"backbone=wrn28 backbone.depth=10 backbone.width=2": 7, "backbone=resnet12": 16}.items():
        for layer in range(layers):
            settings = ["algo=cavia", *words.split(), f"algo.layer={layer}", "algo.steps=1", "algo.context=3"]
            if "resnet12" in words:
                settings.append("backbone.widths=[4,6,8,10]")
            algorithm = build.algorithm(composed(*settings), (1, 16, 16), 3, 4)
            loss, _ = algorithm.score(algorithm.init(generator("film")), trees.index(toy_tasks(tasks=1), 0))
            assert loss.isfinite()


# MAML++


def published_weights(steps: int, epoch: int, epochs: int) -> list[float]:
    """The weights of the losses by step as the authors compute them."""
    if epoch >= epochs:
        return [0.0] * (steps - 1) + [1.0]
    weights, decay, least = [1.0 / steps] * steps, 1.0 / steps / epochs, 0.03 / steps
    for i in range(steps - 1):
        weights[i] = max(weights[i] - epoch * decay, least)
    weights[-1] = min(weights[-1] + epoch * (steps - 1) * decay, 1.0 - (steps - 1) * least)
    return weights


@pytest.mark.parametrize("epoch", [0, 1, 7, 14, 15, 60])
def test_the_losses_of_all_steps_fade_as_published(epoch: int) -> None:
    algorithm = built("mamlpp", "algo.steps=4", "algo.multi_step=0.15")
    assert algorithm.at(epoch / 100).weights() == pytest.approx(published_weights(4, epoch, 15))


def test_mamlpp_written_out() -> None:
    """Loss and gradient of two steps: a rate by layer and step, scale and offset by step, a loss after each."""
    algorithm, tasks = built("mamlpp", "algo.steps=2", "algo.rule.lr=0.2"), toy_tasks(tasks=1)
    meta = algorithm.init(generator("pp"))
    params = spread(spread(meta.params, "rule", 0.05), "norms", 0.2)
    ours, logs = algorithm.meta_grad(Meta(params, {}), tasks, Mapper("loop"))

    leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
    support, query, _ = trees.index(tasks, 0)
    weights = {n: p for n, p in leaves.items() if not n.startswith(("rule.", "norms."))}

    def logits(weights: Params, x: torch.Tensor, step: int) -> torch.Tensor:
        for block in range(4):
            x = F.conv2d(x, weights[f"backbone.convs.{block}.weight"], padding=1)
            scale, offset = (leaves[f"norms.backbone.norms.{block}.{side}"][step] for side in ("weight", "bias"))
            x = F.max_pool2d(F.relu(F.batch_norm(x, None, None, scale, offset, training=True)), 2)
        return F.linear(x.flatten(1), weights["head.weight"], weights["head.bias"])

    total = torch.zeros(())
    for step in range(2):
        loss = F.cross_entropy(logits(weights, support.x, step), support.y)
        grads = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        weights = {
            name: p - leaves[f"rule.{name}"][step] * g for (name, p), g in zip(weights.items(), grads, strict=True)
        }
        total = total + F.cross_entropy(logits(weights, query.x, step), query.y) / 2
    expected = torch.autograd.grad(total, list(leaves.values()))
    torch.testing.assert_close(logs["loss"], total.detach(), rtol=1e-10, atol=1e-10)
    for (name, gradient), want in zip(ours.items(), expected, strict=True):
        torch.testing.assert_close(gradient, want, rtol=0, atol=1e-9, msg=name)


def test_derivative_order_annealing() -> None:
    algorithm = built("mamlpp", "algo.first_order_until=0.5")
    assert (algorithm.at(0.2).first_order, algorithm.at(0.5).first_order) == (True, False)


def test_more_steps_at_test_take_the_last_ones_rates() -> None:
    algorithm = built("mamlpp", "algo.steps=2", "algo.test_steps=5")
    meta, support = algorithm.init(generator("more")), trees.index(toy_tasks(tasks=1), 0).support
    assert len(list(algorithm.for_evaluation().path(meta, support))) == 6


# Meta-Curvature


def test_metacurvatures_gradient_is_learn2learns() -> None:
    l2l = learn2learn()
    algorithm, tasks = built("metacurvature", "algo.steps=2", "algo.rule.lr=0.2"), toy_tasks(tasks=2)
    meta = algorithm.init(generator("mc"))
    params = spread(meta.params, "rule", 0.1)
    ours, _ = algorithm.meta_grad(Meta(params, {}), tasks, Mapper("loop"))

    weights = {name: p for name, p in params.items() if not name.startswith("rule.")}
    theirs = l2l.algorithms.GBML(
        Net(algorithm, weights), transform=l2l.optim.transforms.MetaCurvatureTransform, lr=0.2, adapt_transform=False
    )
    order = [name for name, _ in theirs.module.named_parameters()]
    pairs: list[tuple[str, torch.nn.Parameter]] = []
    for name, transform in zip(order, theirs.compute_update.transforms_modules, strict=True):
        for side, learned in transform.named_parameters():
            place = {"mc": "factor", "mc_in": "side0", "mc_out": "side1", "mc_f": "side2"}[side]
            pairs.append((f"rule.{name}.{place}", learned))
    for name, learned in pairs:
        # On the second side theirs multiplies from the right, so it holds the transpose.
        learned.data.copy_(params[name].T if name.endswith("side1") else params[name])
    outer_loss(theirs, tasks, 2).backward()
    for name, parameter in theirs.module.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=0, atol=1e-8, msg=name)
    for name, learned in pairs:
        assert learned.grad is not None
        want = learned.grad.T if name.endswith("side1") else learned.grad
        torch.testing.assert_close(ours[name], want, rtol=0, atol=1e-8, msg=name)


# iMAML


def test_imamls_gradient_is_a_dense_solution() -> None:
    """On a whole network: its Hessian as a matrix, solved directly."""
    algorithm = built(
        "imaml", "norm=none", "algo.steps=3", "algo.rule.lr=0.1", "algo.strength=4", "algo.iterations=400", filters=2
    )
    tasks = toy_tasks(tasks=1)
    meta = algorithm.init(generator("imaml"))
    ours, _ = algorithm.meta_grad(meta, tasks, Mapper("loop"))
    support, query, _ = trees.index(tasks, 0)
    net = Net(algorithm, meta.params)
    start = parameters_to_vector(net.parameters()).detach()

    def loss(w: torch.Tensor, examples: Examples) -> torch.Tensor:
        names, at, weights = [name for name, _ in net.named_parameters()], 0, {}
        for name in names:
            size = meta.params[name].numel()
            weights[name], at = w[at : at + size].view_as(meta.params[name]), at + size
        return F.cross_entropy(torch.func.functional_call(net, weights, (examples.x,)), examples.y)

    phi = start.clone()
    for _ in range(3):
        slope = torch.autograd.functional.jacobian(lambda w: loss(w, support), phi)
        phi = phi - 0.1 * (slope + 4 * (phi - start))
    hessian = torch.autograd.functional.hessian(lambda w: loss(w, support), phi)
    by_query = torch.autograd.functional.jacobian(lambda w: loss(w, query), phi)
    system = torch.eye(len(phi)) + hessian / 4
    assert torch.linalg.eigvalsh(system).min() > 0
    vector_to_parameters(torch.linalg.solve(system, by_query), net.parameters())
    for name, want in net.named_parameters():
        torch.testing.assert_close(ours[name], want.detach(), rtol=1e-6, atol=1e-8, msg=name)


def test_converged_imaml_has_the_slope_of_its_loss() -> None:
    """Where the inner loop has converged, the implicit gradient is exact: here of a linear classifier of pixels."""
    settings = ["algo.steps=500", "algo.rule.lr=0.2", "algo.strength=1", "algo.iterations=60"]
    algorithm = build.algorithm(composed("algo=imaml", "backbone=pixels", *settings), (1, 4, 4), 3, 4)
    support, query, _ = trees.index(toy_tasks(tasks=1, size=4), 0)
    meta = algorithm.init(generator("imaml"))
    ours, _, _ = algorithm.implicit(meta, Episode(support, query))

    def outer(params: Params) -> torch.Tensor:
        task = algorithm.adapt(Meta(params, {}), support)
        return F.cross_entropy(algorithm.predict(meta, task, query.inputs), query.y)

    g = generator("direction")
    for _ in range(3):
        way = {name: torch.randn(p.shape, generator=g) for name, p in meta.params.items()}
        up, down = (outer(trees.add(meta.params, trees.scale(way, h))) for h in (1e-5, -1e-5))
        torch.testing.assert_close(trees.dot(ours, way), (up - down) / 2e-5, rtol=1e-6, atol=1e-9)


# CAVIA


def test_cavia_written_out() -> None:
    algorithm, tasks = built("cavia", "algo.steps=2", "algo.context=5", "algo.rule.lr=0.7"), toy_tasks(tasks=1)
    meta = algorithm.init(generator("cavia"))
    ours, _ = algorithm.meta_grad(meta, tasks, Mapper("loop"))
    leaves = {name: p.clone().requires_grad_() for name, p in meta.params.items()}
    support, query, _ = trees.index(tasks, 0)

    def logits(context: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        film = leaves["film.weight"] @ context + leaves["film.bias"]
        for b in range(4):
            x = F.conv2d(x, leaves[f"backbone.convs.{b}.weight"], padding=1)
            scale, offset = leaves[f"backbone.norms.{b}.weight"], leaves[f"backbone.norms.{b}.bias"]
            x = F.batch_norm(x, None, None, scale, offset, training=True)
            if b == 2:
                x = x * (1 + film[:4, None, None]) + film[4:, None, None]
            x = F.max_pool2d(F.relu(x), 2)
        return F.linear(x.flatten(1), leaves["head.weight"], leaves["head.bias"])

    context = torch.zeros(5, requires_grad=True)
    for _ in range(2):
        loss = F.cross_entropy(logits(context, support.x), support.y)
        context = context - 0.7 * torch.autograd.grad(loss, context, create_graph=True)[0]
    expected = torch.autograd.grad(F.cross_entropy(logits(context, query.x), query.y), list(leaves.values()))
    for (name, gradient), want in zip(ours.items(), expected, strict=True):
        torch.testing.assert_close(gradient, want, rtol=0, atol=1e-9, msg=name)


def test_cavia_moves_the_context_alone_and_needs_a_layer_for_it() -> None:
    algorithm = built("cavia")
    meta, support = algorithm.init(generator("cavia")), trees.index(toy_tasks(tasks=1), 0).support
    fast = algorithm.adapt(meta, support)
    assert all(torch.equal(fast[name], p) for name, p in meta.params.items() if not name.startswith("rule."))
    assert fast["context"].abs().sum() > 0
    with pytest.raises(InputError, match="this backbone has 4 normalised layers"):
        built("cavia", "algo.layer=4")
