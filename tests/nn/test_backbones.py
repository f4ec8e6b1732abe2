"""Backbones: published numbers of parameters, and features as announced."""

import math
import re

import pytest
import torch
import torch.nn.functional as F
import torchvision

from metavision import build, config, trees
from metavision.backbones.base import Backbone
from metavision.engine.mapping import Mapper
from metavision.errors import InputError
from metavision.nn.dropblock import DropBlock
from metavision.seeds import generator
from metavision.types import Inputs
from tests.algorithms.builds import composed
from tests.conftest import toy_tasks


def backbone(words: str, shape: tuple[int, int, int]) -> Backbone:
    return build.make(composed(*words.split())["backbone"], shape=shape)


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ("backbone=cnn2", 8_475_530),
        ("backbone=cnn1", 924_106),
        ("backbone=cnn2_strided", 327_114),
        ("backbone=cnn2_strided backbone.padded=false", 130_506),
    ],
)
def test_tutorials_networks_have_the_published_number_of_parameters(words: str, count: int) -> None:
    """With ten outputs, on 32x32 RGB."""
    made = backbone(words, (3, 32, 32))
    head = torch.nn.Linear(made.features, 10)
    assert sum(p.numel() for module in (made, head) for p in module.parameters()) == count


@pytest.mark.parametrize(
    ("words", "side", "count"),
    [
        ("conv4", 84, 113_088 - 256),  # without the offsets that a normalisation takes out again
        ("conv4 backbone.filters=32", 84, 28_896 - 128),
        ("resnet12", 84, 12_424_320),
        ("resnet12_narrow", 84, 7_996_800),
        ("resnet18", 224, 11_176_512),  # torchvision's 11,689,512 less its head of 513,000
        ("wrn28", 32, 36_479_194 - 6_410),  # the authors' for CIFAR-10, less its head
        ("vit_small_224", 224, 22_050_664 - 385_000),  # timm's, less its head
    ],
)
def test_published_networks_have_the_published_number_of_parameters(words: str, side: int, count: int) -> None:
    """For RGB, without a head."""
    assert sum(p.numel() for p in backbone(f"backbone={words}", (3, side, side)).parameters()) == count


SMALL = {
    "conv4": "backbone.filters=4",
    "conv4_map": "backbone.filters=4",
    "resnet12": "backbone.widths=[4,6,8,10]",
    "resnet12_narrow": "backbone.widths=[4,4,6,6]",
    "resnet12_map": "backbone.widths=[4,6,8,10]",
    "wrn28": "backbone.depth=10 backbone.width=1",
    "vit_small_32": "backbone.width=12 backbone.depth=2 backbone.heads=3",
    "vit_small_84": "backbone.width=12 backbone.depth=2 backbone.heads=3",
    "vit_small_224": "backbone.width=12 backbone.depth=2 backbone.heads=3",
}
FOREIGN = ("torchvision", "timm")  # what is made of these has tests of its own, in `test_pretrained.py`
NAMES = sorted(
    path.stem
    for path in (config.folder() / "backbone").glob("*.yaml")
    if composed(f"backbone={path.stem}")["backbone"]["_target_"].split(".")[-2] not in FOREIGN
)


def small(name: str) -> str:
    return f"backbone={name} {SMALL.get(name, '')}"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 84, 84)])
def test_features_are_a_map_as_announced(name: str, shape: tuple[int, int, int]) -> None:
    try:
        made = backbone(small(name), shape).eval()
    except InputError as error:
        assert "patches" in str(error) and name.startswith("vit")  # noqa: PT017 - the others take all sizes
        return
    assert made(torch.rand(2, *shape)).shape == (2, made.features)
    assert math.prod(made.map) == made.features


def test_a_stride_takes_a_shortcut_of_its_own_where_channels_stay_as_many() -> None:
    made = backbone("backbone=wrn28 backbone.depth=10 backbone.width=1 backbone.stride=2", (3, 32, 32))
    assert made(torch.rand(2, 3, 32, 32)).shape == (2, 64)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", NAMES)
def test_inner_loops_run_on_every_backbone_mapped_or_not(name: str) -> None:
    """A second-order meta-gradient in training mode, with nothing dropped, since draws differ by mapping."""
    size = {"vit_small_84": 84, "vit_small_224": 224}.get(name, 32)
    drop = {"resnet12": "dropblock", "vit": "drop", "conv512": "drop"}
    off = [f"backbone.{option}=0" for start, option in drop.items() if name.startswith(start)]
    words = ["algo=maml", "algo.steps=1", *small(name).split(), *off]
    algorithm = build.algorithm(composed(*words), (1, size, size), 2, 4)
    meta, tasks = algorithm.init(generator("backbones")), toy_tasks(tasks=2, way=2, shot=1, query=2, size=size)
    loop, _ = algorithm.meta_grad(meta, tasks, Mapper("loop"))
    mapped, _ = algorithm.meta_grad(meta, tasks, Mapper("vmap", 2))
    assert trees.norm(loop) > 0
    for key in loop:
        torch.testing.assert_close(mapped[key], loop[key], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["resnet12", "conv512", "vit_small_32"])
def test_what_drops_in_training_drops_nothing_in_evaluation(name: str) -> None:
    drop = "dropblock" if name == "resnet12" else "drop"
    words = ["algo=protonet", "norm=none", *small(name).split(), f"backbone.{drop}=0.3"]
    algorithm = build.algorithm(composed(*words), (1, 32, 32), 2, 4)
    meta, x = algorithm.init(generator("drop")), Inputs(torch.rand(3, 1, 32, 32))
    training = [algorithm.embed(meta.params, {}, x) for _ in range(2)]
    tested = [algorithm.for_evaluation().embed(meta.params, {}, x) for _ in range(2)]
    assert not torch.equal(*training)
    assert torch.equal(*tested)


def test_dropblock_drops_whole_squares_of_about_its_rate() -> None:
    drop, x = DropBlock(0.2, 5), torch.ones(400, 2, 16, 16)
    torch.manual_seed(0)
    y = drop(x)
    # Squares overlap, so that somewhat less is dropped than the rate says.
    assert 0.14 < (y == 0).float().mean() < 0.2
    assert y.mean() == pytest.approx(1, abs=1e-5)
    # Every dropped number lies in a dropped square: opening the mask by the square leaves it as it is.
    gone = (y == 0).float()
    whole = -F.max_pool2d(-gone, 5, stride=1)
    assert torch.equal(F.max_pool2d(F.pad(whole, [4] * 4), 5, stride=1), gone)
    assert torch.equal(DropBlock(0.2, 5).eval()(x), x)


def test_resnet18_is_torchvisions() -> None:
    ours = backbone("backbone=resnet18 norm=batch", (3, 64, 64))
    peer = torchvision.models.resnet18()
    for name, p in peer.named_parameters():
        if name.startswith("fc"):
            continue
        stage = re.match(r"layer(\d)\.(\d)\.", name)
        place = f"blocks.{2 * (int(stage[1]) - 1) + int(stage[2])}." if stage else ""
        rest = name[stage.end() :] if stage else name
        rest = re.sub(r"^downsample\.0", "shortcut", re.sub(r"^downsample\.1", "shortcut_norm", rest))
        if stage:
            rest = re.sub(r"^conv(\d)", lambda m: f"convs.{int(m[1]) - 1}", rest)
            rest = re.sub(r"^bn(\d)", lambda m: f"norms.{int(m[1]) - 1}", rest)
        else:
            rest = rest.replace("conv1", "conv").replace("bn1", "conv_norm")
        ours.get_parameter(place + rest).data.copy_(p.data)
    peer.fc = torch.nn.Identity()
    x = torch.rand(4, 3, 64, 64)
    torch.testing.assert_close(ours(x), peer.train()(x), rtol=1e-4, atol=1e-4)


def test_vit_is_torchvisions() -> None:
    ours = backbone("backbone=vit_small_32 backbone.width=24 backbone.depth=2 backbone.heads=3", (3, 32, 32))
    peer = torchvision.models.VisionTransformer(32, 4, num_layers=2, num_heads=3, hidden_dim=24, mlp_dim=96)
    names = {
        "class_token": "tokens.start",
        "conv_proj": "patches",
        "encoder.pos_embedding": "tokens.place",
        "encoder.ln": "last_norm",
        **{f"encoder.layers.encoder_layer_{i}.ln_{j + 1}": f"blocks.{i}.norms.{j}" for i in (0, 1) for j in (0, 1)},
        **{f"encoder.layers.encoder_layer_{i}.self_attention.in_proj_": f"blocks.{i}.qkv." for i in (0, 1)},
        **{f"encoder.layers.encoder_layer_{i}.self_attention.out_proj": f"blocks.{i}.out" for i in (0, 1)},
        **{f"encoder.layers.encoder_layer_{i}.mlp.0": f"blocks.{i}.up" for i in (0, 1)},
        **{f"encoder.layers.encoder_layer_{i}.mlp.3": f"blocks.{i}.down" for i in (0, 1)},
    }
    for name, p in peer.named_parameters():
        if not name.startswith("heads"):
            start = next(start for start in names if name.startswith(start))
            ours.get_parameter(names[start] + name.removeprefix(start)).data.copy_(p.data)
    peer.heads = torch.nn.Identity()
    x = torch.rand(4, 3, 32, 32)
    torch.testing.assert_close(ours(x), peer.eval()(x), rtol=1e-4, atol=1e-5)


def test_images_too_small_are_refused() -> None:
    with pytest.raises(InputError, match="images of 4x4 are too small"):
        backbone("backbone=cnn2_strided backbone.padded=false", (3, 4, 4))
