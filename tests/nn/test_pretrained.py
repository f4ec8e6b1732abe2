"""Networks of torchvision and timm against these libraries' own, from files as these write them."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from metavision import build, trees
from metavision.algorithms.base import Algorithm
from metavision.backbones.base import Backbone
from metavision.backbones.timm import Timm
from metavision.backbones.torchvision import Torchvision
from metavision.cli import training
from metavision.engine.fitting import fitted
from metavision.engine.mapping import Mapper
from metavision.errors import InputError
from metavision.seeds import generator
from metavision.types import Inputs, Meta
from tests.algorithms.builds import composed
from tests.conftest import toy_tasks

timm: Any = pytest.importorskip("timm")
RGB = (3, 50, 50)


def shaken(network: nn.Module) -> nn.Module:
    """With statistics and offsets that are not 0 and 1."""
    g = torch.Generator().manual_seed(0)
    for name, t in network.state_dict().items():
        if name.endswith(("running_mean", "running_var", "bias")):
            t.copy_(0.5 + torch.rand(t.shape, generator=g))
    return network.eval()


def pictures(n: int = 2, side: int = 50, channels: int = 3) -> Tensor:
    """Of middling light, so that nothing is cut off at black or white: Pillow does so between rows and columns."""
    return 0.3 + 0.4 * torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(1))


def made(words: str, shape: tuple[int, int, int] = RGB) -> Backbone:
    return build.backbone(composed(*words.split()), shape)


def features(backbone: Backbone, x: Tensor) -> Tensor:
    """By the weights that training starts from."""
    params = backbone.initial(generator("unused"))  # type: ignore[operator]
    with torch.no_grad():
        return torch.func.functional_call(backbone, params, (x,))


@pytest.fixture
def resnet(tmp_path: Path) -> tuple[Path, nn.Module]:
    network = shaken(models.resnet18())
    torch.save(network.state_dict(), tmp_path / "resnet.pth")
    return tmp_path / "resnet.pth", network


@pytest.fixture
def vit(tmp_path: Path) -> tuple[Path, nn.Module]:
    """A folder as timm saves it."""
    network = shaken(timm.create_model("test_vit"))
    timm.models.save_for_hf(network, str(tmp_path / "vit"), safe_serialization=True)
    return tmp_path / "vit", network


LARGE = [pytest.param(name, marks=pytest.mark.slow) for name in ("vgg16", "convnext_tiny", "vit_b_16", "swin_t")]
HEADS = {"mobilenet_v3_small": "classifier.3", "shufflenet_v2_x0_5": "fc", "resnet18": "fc", "vgg16": "classifier.6"}
HEADS |= {"convnext_tiny": "classifier.2", "vit_b_16": "heads.head", "swin_t": "head"}


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", *LARGE])
@pytest.mark.filterwarnings("ignore:The parameter 'init_weights'")
def test_torchvisions_network_by_its_own_transforms(name: str, tmp_path: Path) -> None:
    """What its classifier is given, from RGB and from grey images, and from those of the right size."""
    network = shaken(models.get_model(name))
    torch.save(network.state_dict(), tmp_path / "some.pth")
    ours = made(f"backbone=torchvision backbone.name={name} backbone.weights={tmp_path / 'some.pth'}")
    seen: list[Tensor] = []
    network.get_submodule(HEADS[name]).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    transforms = models.get_model_weights(name).DEFAULT.transforms()
    for x in (pictures(), pictures(channels=1), pictures(side=224)):
        with torch.no_grad():
            network(transforms(x.expand(-1, 3, -1, -1)) if x.shape[-1] != 224 else ours.prepared(x))
        found = features(ours, x)
        assert found.shape == (2, ours.features)
        torch.testing.assert_close(found, seen[-1].flatten(1), rtol=1e-5, atol=1e-5)
    x = pictures(side=224)
    torch.testing.assert_close(ours.prepared(x), torchvision.transforms.functional.normalize(x, *IMAGENET))


IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_resnet", "mobilenetv3_small_050"])
def test_timms_network_by_its_own_transforms(name: str, tmp_path: Path) -> None:
    """On bytes, which its transforms resize by Pillow: apart by rounding where they do, else not."""
    network = shaken(timm.create_model(name))
    timm.models.save_for_hf(network, str(tmp_path / "saved"), safe_serialization=True)
    ours = made(f"backbone=timm backbone.weights={tmp_path / 'saved'}")
    transforms = timm.data.create_transform(**timm.data.resolve_data_config(model=network))
    peer = timm.create_model(name, num_classes=0)
    peer.load_state_dict(network.state_dict(), strict=False)
    for side, apart in ((ours.preprocessing.resized, 1e-5), (90, 0.06)):
        x = (pictures(side=side) * 255).byte()
        theirs = torch.stack([transforms(torchvision.transforms.functional.to_pil_image(image)) for image in x])
        torch.testing.assert_close(ours.prepared(x / 255), theirs, rtol=0, atol=apart)
        with torch.no_grad():
            expected = peer.eval()(ours.prepared(x / 255))
        torch.testing.assert_close(features(ours, x / 255), expected, rtol=1e-5, atol=1e-5)
        assert expected.shape == (2, ours.features)


def test_places_of_a_transformer_are_interpolated_as_timm_does(vit: tuple[Path, nn.Module]) -> None:
    folder, _ = vit
    file = folder / "model.safetensors"
    peer = timm.create_model(
        "test_vit", pretrained=True, pretrained_cfg_overlay={"file": str(file)}, num_classes=0, img_size=96
    )
    ours = made(f"backbone=timm backbone.weights={folder} backbone.size=96 backbone.crop=1")
    x = pictures(side=96)
    with torch.no_grad():
        torch.testing.assert_close(features(ours, x), peer.eval()(ours.prepared(x)), rtol=1e-5, atol=1e-5)


def test_one_file_in_many_forms(resnet: tuple[Path, nn.Module], tmp_path: Path) -> None:
    path, network = resnet
    save_file(network.state_dict(), tmp_path / "resnet.safetensors")
    torch.save({"state_dict": network.state_dict(), "epoch": 3}, tmp_path / "wrapped.pt")
    (tmp_path / "folder").mkdir()
    save_file(network.state_dict(), tmp_path / "folder" / "model.safetensors")
    body = {name: t for name, t in network.state_dict().items() if not name.startswith("fc.")}
    torch.save(body, tmp_path / "body.pth")  # a network without its head
    forms = (path, *(tmp_path / name for name in ("resnet.safetensors", "wrapped.pt", "folder", "body.pth")))
    found = [features(Torchvision(RGB, "resnet18", str(form)), pictures()) for form in forms]
    for other in found[1:]:
        assert torch.equal(other, found[0])


def test_provenance_says_what_the_library_says(vit: tuple[Path, nn.Module], tmp_path: Path) -> None:
    folder, network = vit
    about = Timm(RGB, weights=str(folder)).provenance
    assert about is not None and json.loads(json.dumps(about))
    head = sum(p.numel() for p in network.head.parameters())
    assert about["parameters"] == sum(p.numel() for p in network.parameters()) - head
    assert (about["library"], about["version"], about["model"]) == ("timm", timm.__version__, "test_vit")
    assert about["licence"] == network.pretrained_cfg["license"] and len(about["sha256"]) == 64
    named = models.ResNet18_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    torch.save(models.resnet18().state_dict(), tmp_path / named)
    about = Torchvision(RGB, "resnet18", str(tmp_path / named)).provenance
    assert about is not None
    assert (about["weights"], about["trained_on"]) == ("IMAGENET1K_V1", "IMAGENET1K, 1000 classes")
    assert Torchvision(RGB, "resnet18", "none").provenance is None


def test_weights_are_what_training_starts_from_and_drawn_ones_are_a_function_of_the_generator(
    vit: tuple[Path, nn.Module],
) -> None:
    def start(words: str, seed: int) -> Meta:
        algorithm = build.algorithm(composed("algo=protonet", *words.split()), RGB, 3, 4)
        return algorithm.init(generator("start", seed))

    folder, network = vit
    for seed in (0, 1):
        found = trees.select(start(f"backbone=timm backbone.weights={folder}", seed).params, "backbone.network")
        assert found.keys() == {n for n, _ in network.named_parameters()} - {"head.weight", "head.bias"}
        assert all(torch.equal(p, network.get_parameter(n)) for n, p in found.items())
    torch.manual_seed(3)
    state = torch.get_rng_state()
    a, b, c = (start("backbone=timm backbone.name=test_vit backbone.weights=none", seed).params for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["backbone.network.pos_embed"], c["backbone.network.pos_embed"])


def test_statistics_stay_as_they_came_and_a_checkpoint_holds_them(resnet: tuple[Path, nn.Module]) -> None:
    path, network = resnet
    config = composed("algo=protonet", "backbone=resnet18_in1k", f"backbone.weights={path}", "backbone.size=32")
    algorithm = build.algorithm(config, (3, 32, 32), 3, 4)
    meta = algorithm.calibrate(algorithm.init(generator("bn")), pictures(side=32))
    assert algorithm.backbone.norm == "stored" and not algorithm.transductive
    assert torch.equal(meta.buffers["backbone.network.bn1.running_mean"], network.bn1.running_mean)
    bare = build.unloaded({"config": config, "pretrained": json.loads(json.dumps(algorithm.backbone.provenance))})
    path.unlink()
    again = build.algorithm(bare, (3, 32, 32), 3, 4)
    assert again.backbone.preprocessing == algorithm.backbone.preprocessing
    x = Inputs(pictures(4, side=32))
    found = [a.embed(meta.params, meta.buffers, x) for a in (algorithm, again)]
    assert torch.equal(*found)
    alone = torch.cat([algorithm.embed(meta.params, meta.buffers, Inputs(x.x[i : i + 1])) for i in range(4)])
    torch.testing.assert_close(alone, found[0])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_resnet"])
def test_second_order_through_another_librarys_layers(name: str) -> None:
    """MAML's meta-gradient against finite differences; its fused attention has no second derivative."""
    words = ["algo=maml", "algo.steps=1", "algo.rule.lr=0.01", "backbone=timm", f"backbone.name={name}"]
    algorithm = build.algorithm(composed(*words, "backbone.weights=none", "backbone.size=32"), (1, 32, 32), 2, 4)
    meta, tasks = algorithm.init(generator("maml")), toy_tasks(tasks=1, way=2, shot=1, query=2, size=32)
    grads, _ = algorithm.meta_grad(meta, tasks, Mapper("loop"))
    g = generator("direction")
    direction = {name: torch.randn(p.shape, generator=g) * p.std() for name, p in meta.params.items() if p.numel() > 1}

    def loss(t: float) -> Tensor:
        params = {name: p + t * direction[name] if name in direction else p for name, p in meta.params.items()}
        return algorithm.score(Meta(params, {}), trees.index(tasks, 0))[0]

    slope = (loss(1e-7) - loss(-1e-7)) / 2e-7
    torch.testing.assert_close(sum((grads[n] * d).sum() for n, d in direction.items()), slope, rtol=1e-4, atol=1e-6)


def test_tasks_are_not_mapped_at_once() -> None:
    config = composed("algo=protonet", "backbone=timm", "backbone.name=test_vit", "backbone.weights=none")
    algorithm: Algorithm = build.algorithm(config, (1, 16, 16), 3, 4)
    assert not algorithm.maps
    meta, tasks = algorithm.init(generator("map")), toy_tasks(tasks=1)
    assert fitted(algorithm, meta, tasks, build.wanted(config), train=True).strategy == "loop"


@pytest.fixture
def hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Empty hubs, and no network."""

    def refused(request: Any, timeout: float) -> None:
        assert timeout <= 30
        raise URLError("no route to host")

    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path / "hub"))
    monkeypatch.setattr(urllib.request, "urlopen", refused)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "models"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield tmp_path
    torch.hub.set_dir(before)


def test_without_a_network_the_exact_file_is_named(hubs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError) as caught:
        made("backbone=resnet18_in1k")
    named = models.ResNet18_Weights.DEFAULT.url.rpartition("/")[2]
    assert f"put it at {hubs / 'hub' / 'checkpoints' / named}, or anywhere and say backbone.weights=PATH" in str(
        caught.value
    )
    assert "no route to host" in str(caught.value) and "\n" not in str(caught.value)
    for offline, said in ((False, "no route to host"), (True, "HF_HUB_OFFLINE is set")):
        if offline:
            monkeypatch.setenv("HF_HUB_OFFLINE", "1")
            monkeypatch.setattr(urllib.request, "urlopen", None)  # is not even asked
            with pytest.raises(
                InputError, match=f"HF_HUB_OFFLINE is set; get {models.ResNet18_Weights.DEFAULT.url}, put"
            ):
                made("backbone=resnet18_in1k")
        with pytest.raises(InputError, match=r"model.safetensors of timm/vit_small_patch14_dinov2.lvd142m") as caught:
            made("backbone=dinov2_s14")
        assert said in str(caught.value) and str(hubs / "models") in str(caught.value)


def test_what_lies_in_a_hub_is_taken_from_there_and_held_to_its_hash(hubs: Path, vit: tuple[Path, nn.Module]) -> None:
    folder, network = vit
    home = hubs / "models" / "models--timm--test_vit.r160_in1k"
    (home / "snapshots" / "a1").mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("a1")
    (folder / "model.safetensors").rename(home / "snapshots" / "a1" / "model.safetensors")
    found = made("backbone=timm backbone.name=test_vit")
    assert torch.equal(found.get_parameter("network.pos_embed"), network.pos_embed)
    assert found.provenance is not None and found.provenance["address"] == "timm/test_vit.r160_in1k"
    wrong = hubs / "hub" / "checkpoints" / models.ResNet18_Weights.DEFAULT.url.rpartition("/")[2]
    wrong.parent.mkdir(parents=True)
    torch.save({}, wrong)
    with pytest.raises(InputError, match="is damaged: its SHA-256 begins"):
        made("backbone=resnet18_in1k")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("backbone=torchvision backbone.name=resnet81", "no network resnet81; did you mean resnet18"),
        ("backbone=timm backbone.name=vit_smal", "no network vit_smal; did you mean"),
        ("backbone=timm backbone.name=test_vit.nothing", "Invalid pretrained tag"),
        ("backbone=timm", "backbone.name is needed"),
        ("backbone=resnet18_in1k backbone.weights=nowhere.pth", "must be default, none, or the path"),
        ("backbone=torchvision backbone.name=squeezenet1_0 backbone.weights=none", "has no linear classifier"),
        ("backbone=resnet18_in1k backbone.weights=none scaling=standard", "by its own figures"),
    ],
)
def test_what_there_is_not_is_refused(words: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        made(words)
    with pytest.raises(InputError, match="1 or 3 channels, and these have 2"):
        made("backbone=timm backbone.name=test_vit backbone.weights=none", (2, 32, 32))


def test_files_that_do_not_fit_are_refused_in_one_line(vit: tuple[Path, nn.Module], tmp_path: Path) -> None:
    folder, _ = vit
    path = tmp_path / "file.pth"

    def refused(state: Any, words: str = "backbone=resnet18_in1k") -> str:
        torch.save(state, path)
        with pytest.raises(InputError) as caught:
            made(f"{words} backbone.weights={path}")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    fits = models.resnet18().state_dict()
    lacking = {name: t for name, t in fits.items() if name != "conv1.weight"}
    assert "it lacks conv1.weight" in refused(lacking)
    assert "it has rest, which the network lacks" in refused({**fits, "rest": torch.ones(1)})
    wrong = refused({**fits, "conv1.weight": torch.ones(64, 3, 5, 5), "bn1.bias": torch.ones(1)})
    assert "conv1.weight" in wrong and "and 1 more differences" in wrong
    assert "holds no state dict" in refused([1, 2])
    assert "can't be read as weights" in refused(Backbone())  # a pickle of code, which is not executed
    assert "does not fit timm's test_vit" in refused(fits, "backbone=timm backbone.name=test_vit")
    with pytest.raises(InputError, match=r"is test_resnet, and the folder backbone.weights has a test_vit"):
        made(f"backbone=timm backbone.name=test_resnet backbone.weights={folder}")
    (folder / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(InputError, match="does not say `architecture`"):
        made(f"backbone=timm backbone.weights={folder}")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"neither model.safetensors nor pytorch_model.bin"):
        made(f"backbone=resnet18_in1k backbone.weights={folder}")


def test_without_timm_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(InputError, match=r"timm is not installed .*; pip install timm"):
        made("backbone=dinov2_s14")


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "swin_tiny_patch4_window7_224"])
def test_it_follows_its_images_to_another_device(name: str) -> None:
    """With all that is neither a parameter nor handed in, such as places; here to where nothing is computed."""
    config = composed("algo=protonet", "backbone=timm", f"backbone.name={name}", "backbone.weights=none")
    algorithm = build.algorithm(config, (3, 32, 32), 3, 4)
    place = torch.device("meta")
    params = trees.to(algorithm.init(generator("place")).params, place)
    x = Inputs(torch.empty(2, 3, 32, 32, device=place))
    meta = algorithm.calibrate(Meta(params, {}), x.x)
    for buffers in ({}, meta.buffers):
        assert algorithm.embed(params, buffers, x).device == place


def test_who_begins_with_foreign_weights_hands_that_down() -> None:
    plain = build.algorithm(composed("algo=protonet"), (1, 28, 28), 3, 4)
    about = {"library": "timm"}
    assert training._pretrained(plain, [{"trained_on": []}]) is None  # of a checkpoint that does not know of it yet
    assert training._pretrained(plain, [{"pretrained": None}, {"pretrained": about}]) is about
    plain.backbone.provenance = {"library": "torchvision"}
    assert training._pretrained(plain, [{"pretrained": about}]) == {"library": "torchvision"}
