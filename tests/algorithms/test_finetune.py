"""Fine-tuning: every way of moving few numbers against layers beside the network, and P>M>F against its loop."""

import copy
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metavision import trees
from metavision.algorithms.finetune import Finetune
from metavision.backbones.vit import ViT
from metavision.cli.__main__ import main
from metavision.engine.mapping import Mapper
from metavision.errors import InputError
from metavision.nn import tuning
from metavision.seeds import generator
from metavision.types import Episode, Examples, Inputs, Meta, Metrics, P
from tests.algorithms.builds import built
from tests.conftest import toy_tasks
from tests.engine.test_waiting import Reads

pytestmark = pytest.mark.usefixtures("float64")
TUNES = ("head", "bitfit", "film", "lora", "adapters", "all")


def episode(shot: int = 3) -> Episode:
    return trees.index(toy_tasks(tasks=1, shot=shot), 0)


def evaluated(name: str, *words: str) -> tuple[Finetune, Meta]:
    algorithm = built(name, *words).for_evaluation()
    meta = algorithm.init(generator("finetune"))
    return algorithm, algorithm.calibrate(meta, toy_tasks(tasks=4).support.x.flatten(0, 1))


def vit() -> tuple[ViT, P]:
    made = ViT((1, 16, 16), patch=8, width=12, depth=2, heads=3)
    return made, {name: p.detach() for name, p in made.named_parameters()}


@pytest.mark.parametrize("tune", TUNES)
def test_fine_tuning_begins_with_the_network_as_it_was_and_lowers_the_supports_loss(tune: str) -> None:
    algorithm, meta = evaluated("finetune", f"algo.tune={tune}", "algo.steps=15", "algo.rule.lr=0.01")
    support = episode().support
    before, *_, after = algorithm.path(meta, support)
    still = algorithm.features(meta, trees.select(before, "extra"), support.inputs)
    assert torch.equal(still, algorithm.embed(meta.params, meta.buffers, support.inputs))

    def loss(fast: P) -> Tensor:
        z = algorithm.features(meta, trees.select(fast, "extra"), support.inputs)
        return algorithm.problem.loss(algorithm.classify(meta, trees.select(fast, "head"), z), support)

    assert loss(after) < 0.9 * loss(before)
    moved = {name.removeprefix("extra.") for name in after if name.startswith("extra.")}
    assert {name.removesuffix(".A").removesuffix(".B") for name in moved} == set(tuning.names(algorithm.backbone, tune))


@pytest.mark.parametrize("tune", TUNES)
def test_it_maps_over_tasks_of_any_size(tune: str) -> None:
    words = [f"algo.tune={tune}", "algo.steps=3", "algo.folds=2", "algo.rule.epsilon=0.01", "algo.augment=" + DIFF]
    algorithm, meta = evaluated("finetune", *words)
    tasks = toy_tasks(tasks=3)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0], [1, 0, 1, 1, 1, 0]], dtype=torch.bool)
    tasks = tasks._replace(support=tasks.support._replace(mask=mask))

    def scores(params: P, one: Episode) -> Metrics:
        return {"loss": algorithm.score(Meta(params, meta.buffers), one)[0]}

    with torch.no_grad():
        loop = Mapper("loop").map(scores, meta.params, tasks)
        assert loop["loss"].isfinite().all()
        torch.testing.assert_close(Mapper("vmap", 2).map(scores, meta.params, tasks), loop, rtol=1e-7, atol=1e-9)


DIFF = "{_target_: metavision.data.augment.diffaugment.DiffAugment}"


def test_the_head_begins_as_class_means() -> None:
    (support, query, _), means = episode(), []
    for head in ("cosine", "linear"):
        algorithm, meta = evaluated("finetune", f"algo.head={head}", "algo.steps=0")
        z, of = (algorithm.embed(meta.params, meta.buffers, part.inputs) for part in (support, query))
        c = torch.stack([z[support.y == k].mean(0) for k in range(3)])
        found = algorithm.predict(meta, algorithm.adapt(meta, support), query.inputs)
        if head == "cosine":
            torch.testing.assert_close(found, 10 * F.cosine_similarity(of.unsqueeze(1), c, dim=-1))
        else:
            apart = -torch.cdist(of, c).square()
            torch.testing.assert_close(found.softmax(-1), apart.softmax(-1))
        means.append(found)
    assert not torch.equal(*means)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 2])
def test_an_adapter_is_a_convolution_of_a_pixel_beside_it(stride: int, groups: int) -> None:
    """For odd kernels, dilated ones too, and for matrices."""
    for kernel, dilation in ((3, 1), (5, 2), ((1, 3), 1)):
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = tuple(dilation * (k - 1) // 2 for k in sides)
        layer = nn.Conv2d(4, 6, kernel, stride, padding, dilation, groups)
        beside = nn.Conv2d(4, 6, 1, stride, groups=groups, bias=False)
        params = dict(layer.named_parameters())
        assert tuning.names(layer, "adapters") == ["weight"]
        moved = tuning.tuned("adapters", params, {"weight": beside.weight[:, :, 0, 0]})
        x = torch.rand(2, 4, 9, 9)
        torch.testing.assert_close(torch.func.functional_call(layer, moved, x), layer(x) + beside(x))
    layer, beside = nn.Linear(4, 3), nn.Linear(4, 3, bias=False)
    moved = tuning.tuned("adapters", dict(layer.named_parameters()), {"weight": beside.weight})
    x = torch.rand(2, 4)
    torch.testing.assert_close(torch.func.functional_call(layer, moved, x), layer(x) + beside(x))


@pytest.mark.parametrize("layer", [nn.Conv2d(2, 3, 4, padding=1), nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 1)])
def test_no_adapter_where_a_pixel_beside_is_no_part_of_the_kernel_or_all_of_it(layer: nn.Module) -> None:
    with pytest.raises(InputError, match="finds nothing to move in Conv2d; there are head, bitfit"):
        tuning.names(layer, "adapters")


def test_what_film_and_bitfit_move() -> None:
    made, _ = vit()
    assert set(tuning.names(made, "film")) == {n for n, _ in made.named_parameters() if "norm" in n}
    assert set(tuning.names(made, "bitfit")) == {n for n, _ in made.named_parameters() if n.endswith("bias")}
    with pytest.raises(InputError, match="film finds nothing"):
        built("finetune", "algo.tune=film", "norm=none")


def test_lora_is_pefts() -> None:
    """Outputs and gradients, by the same A and B."""
    peft = pytest.importorskip("peft")
    made, params = vit()
    extra = tuning.start(made, "lora", params, rank=3)
    g = generator("B")
    extra |= {name: torch.rand(t.shape, generator=g) for name, t in extra.items() if name.endswith(".B")}
    layers = [name.removesuffix(".weight") for name in tuning.names(made, "lora")]
    settings = peft.LoraConfig(r=3, lora_alpha=6, target_modules=layers)
    peer = peft.get_peft_model(copy.deepcopy(made), settings).to(torch.float64)
    theirs = {}
    for name, p in peer.named_parameters():
        if "lora_" in name:
            layer, part = name.removeprefix("base_model.model.").removesuffix(".default.weight").rsplit(".lora_", 1)
            theirs[f"{layer}.weight.{part}"] = p
            with torch.no_grad():
                p.copy_(extra[f"{layer}.weight.{part}"].view_as(p))
    assert theirs.keys() == extra.keys()
    ours = {name: t.requires_grad_() for name, t in extra.items()}
    x = torch.rand(4, 1, 16, 16)
    out = torch.func.functional_call(made, tuning.tuned("lora", params, ours, 6 / 3), x)
    torch.testing.assert_close(out, peer(x))
    out.square().sum().backward()
    peer(x).square().sum().backward()
    for name, p in theirs.items():
        torch.testing.assert_close(ours[name].grad, p.grad.view_as(ours[name]))


def test_the_same_steps_as_torchs_optimizer() -> None:
    """The whole network and a cosine classifier by AdamW, whose decay draws to the weights that were."""
    words = ["algo.steps=4", "algo.rule.lr=0.01", "algo.rule.decay=0.1", "norm=group"]
    algorithm, meta = evaluated("finetune", *words)
    support = episode().support
    *_, ours = algorithm.path(meta, support)
    extra = {name: torch.zeros_like(p).requires_grad_() for name, p in trees.select(meta.params, "backbone").items()}
    z = algorithm.embed(meta.params, {}, support.inputs)
    head = torch.stack([z[support.y == k].mean(0) for k in range(3)]).detach().requires_grad_()
    optimizer = torch.optim.AdamW([*extra.values(), head], lr=0.01, weight_decay=0.1)
    for _ in range(4):
        optimizer.zero_grad()
        weights = {name: p + extra[name] for name, p in trees.select(meta.params, "backbone").items()}
        z = torch.func.functional_call(algorithm.backbone, weights, (support.x,))
        F.cross_entropy(10 * F.normalize(z) @ F.normalize(head).T, support.y).backward()
        optimizer.step()
    torch.testing.assert_close(ours["head.weight"], head.detach())
    for name, change in extra.items():
        torch.testing.assert_close(ours[f"extra.{name}"], change.detach())


def test_steps_are_as_many_as_cross_validation_says() -> None:
    """Written out: every fold by itself, and the least sum of losses on what was held out."""
    words = ["algo.tune=head", "algo.steps=12", "algo.rule.lr=0.3", "algo.folds=3", "norm=group"]
    algorithm, meta = evaluated("finetune", *words)
    found = set()
    for t in range(4):
        support = trees.index(toy_tasks(tasks=4, shot=4), t).support
        losses = torch.zeros(13)
        for fold in range(3):
            held = torch.tensor([i % 4 % 3 == fold for i in range(12)])  # four of each class, in order
            rest = Examples(support.x[~held], support.y[~held])
            for i, fast in enumerate(algorithm.path(meta, rest)):
                z = algorithm.embed(meta.params, {}, Inputs(support.x[held]))
                logits = algorithm.classify(meta, trees.select(fast, "head"), z)
                losses[i] += F.cross_entropy(logits, support.y[held], reduction="sum")
        best = int(losses.argmin())
        found.add(best)
        expected = list(algorithm.path(meta, support))[best]["head.weight"]
        torch.testing.assert_close(algorithm.adapt(meta, support).head["weight"], expected)
    assert found - {12}  # it does stop early


def test_with_an_image_a_class_all_steps_are_taken() -> None:
    algorithm, meta = evaluated("finetune", "algo.tune=head", "algo.steps=5", "algo.folds=2")
    support = episode(shot=1).support
    *_, last = algorithm.path(meta, support)
    torch.testing.assert_close(algorithm.adapt(meta, support).head["weight"], last["head.weight"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["algo.folds=1"], "algo.folds is 1"),
        (["algo.steps=-1"], "algo.steps=-1"),
        (["algo.rule.decay=-1"], "make no AdamW"),
        (["scaling=standard", "algo.augment=" + DIFF], "images in"),
    ],
)
def test_what_makes_no_sense_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        built("finetune", *words)


def test_pmf_is_its_loop() -> None:
    """By torch's Adam, with class means of the support as it is and the loss of the support augmented."""
    algorithm, meta = evaluated("pmf", "algo.steps=4", "norm=group")
    meta = Meta(meta.params, {"rate": torch.tensor(0.01)})
    support, query, _ = episode()
    views = list(algorithm._views(support.x))
    assert not any(torch.equal(view, support.x) for view in views)
    weights = {n: p.clone().requires_grad_() for n, p in trees.select(meta.params, "backbone").items()}
    optimizer = torch.optim.Adam(weights.values(), lr=0.01)

    def logits(x: Tensor) -> Tensor:
        z, of = (torch.func.functional_call(algorithm.backbone, weights, (part,)) for part in (support.x, x))
        c = torch.stack([z[support.y == k].mean(0) for k in range(3)])
        return 10 * F.cosine_similarity(of.unsqueeze(1), c, dim=-1)

    for view in views:
        optimizer.zero_grad()
        F.cross_entropy(logits(view), support.y).backward()
        optimizer.step()
    found = algorithm.predict(meta, algorithm.adapt(meta, support), query.inputs)
    torch.testing.assert_close(found, logits(query.x).detach())
    plain = algorithm.choices(meta).options["rate=0"]
    assert not torch.allclose(algorithm.predict(plain, algorithm.adapt(plain, support), query.inputs), found)


@pytest.mark.slow
def test_pmf_end_to_end_on_a_small_vit_in_timms_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Trained, its rate chosen on validation, recorded, and the same when the checkpoint alone is evaluated."""
    timm = pytest.importorskip("timm")
    torch.set_default_dtype(torch.float32)
    timm.models.save_for_hf(timm.create_model("test_vit"), str(tmp_path / "weights"), safe_serialization=True)
    vit = ["backbone=timm", f"backbone.weights={tmp_path / 'weights'}", "backbone.size=32"]
    few = ["budget=smoke", "budget.steps=3", "budget.validation_episodes=4", "budget.test_episodes=4"]
    own = ["algo=pmf", "algo.steps=3", "algo.rates=[0.01,0.03]", "algo.trials=3", "logger=none", "references=[]"]
    assert main(["train", *own, *vit, *few]) == 0
    said = capsys.readouterr().out
    (path,) = Path("outputs").glob("pmf-*/seed0")
    result = json.loads((path / "result.json").read_text())
    choice = result["chosen"]
    assert choice["validation"].keys() == {"rate=0", "rate=0.01", "rate=0.03"}
    assert choice["validation"][choice["name"]] == max(choice["validation"].values())
    assert f"chosen on 3 validation episodes: {choice['name']}" in said
    assert result["track"] == "external" and "track: external" in said and "pre-trained: test_vit" in said
    (tmp_path / "weights").rename(tmp_path / "elsewhere")
    assert main(["evaluate", f"run={path}", "episodes=4"]) == 0
    (again,) = path.glob("evaluations/*/result.json")
    found = json.loads(again.read_text())
    assert found["accuracy"]["mean"] == pytest.approx(result["accuracy"]["mean"])
    assert found["chosen"] == choice and found["pretrained"] == result["pretrained"]


@pytest.mark.parametrize(("name", "words"), [("finetune", ["algo.folds=2", "algo.augment=" + DIFF]), ("pmf", [])])
@pytest.mark.parametrize("tune", TUNES[1:])
def test_nothing_is_read_on_the_host_and_all_is_on_the_device(name: str, words: list[str], tune: str) -> None:
    algorithm, meta = evaluated(name, f"algo.tune={tune}", "algo.steps=2", *words)
    meta = Meta(meta.params, {**meta.buffers, "rate": torch.tensor(0.01)})
    support, query, _ = episode()
    with Reads() as reads:
        algorithm.adapt(meta, support)
    assert not reads.found
    there, examples, x = trees.to((meta, support, query.x), torch.device("meta"))
    logits = algorithm.predict(there, algorithm.adapt(there, examples), Inputs(x))
    assert logits.device == x.device and logits.shape == (9, 3)
