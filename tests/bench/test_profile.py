"""The profile of a training step: kinds are told, work is counted, and watching changes no gradient."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from metavision.engine.mapping import Mapper
from metavision.seeds import generator
from tests.scripts import script

aten = torch.ops.aten


@pytest.fixture
def profile(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parent.parent.parent / "benchmarks")
    return script("profile_step", "benchmarks")


def test_operations_are_told_by_their_kind(profile: ModuleType) -> None:
    kinds = {
        aten.convolution.default: "convolution",
        aten.mm.default: "matrix products",
        aten.addmm.default: "matrix products",
        aten.max_pool2d_with_indices.default: "pooling",
        aten.var_mean.correction: "reductions (normalisation)",
        aten.sum.dim_IntList: "reductions (normalisation)",
        aten.copy_.default: "copies and fills",
        aten.cat.default: "copies and fills",
        aten.add_.Tensor: "elementwise",
        aten.threshold_backward.default: "elementwise",
        aten.randperm.default: profile.REST,
    }
    assert {func: profile.kind(func) for func in kinds} == kinds


def test_it_counts_the_work_of_a_step_and_changes_no_gradient(profile: ModuleType) -> None:
    """A convolution has 2 x outputs x inputs x kernel FLOPs, and each of its gradients as many."""
    step = profile.steps(tiny=True)["ProtoNet, 84 px, 5-way 5-shot, 1 task"]
    tasks, meta = profile.batch(step, torch.device("cpu")), step.algorithm.init(generator("profile"))
    expected, _ = step.algorithm.meta_grad(meta, tasks, Mapper("loop"))
    with profile.Labels() as labels:
        found, _ = step.algorithm.meta_grad(meta, tasks, Mapper("loop"))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    images, filters, sides = 5 * (5 + 15), 4, (28, 14, 7, 3)
    layers = [2 * images * filters * n * 9 * side**2 for n, side in zip((3, 4, 4, 4), sides, strict=True)]
    assert labels.work["convolution"].flops == sum(layers)
    assert labels.work[profile.WEIGHT].flops == sum(layers)
    assert labels.work[profile.INPUT].flops == sum(layers[1:])  # nobody asks for that of the images
    assert labels.work["pooling"].flops == 0 < labels.work["pooling"].bytes


def test_it_writes_figures_that_add_up_and_a_picture(
    profile: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = dict(list(profile.steps(tiny=True).items())[-1:])
    monkeypatch.setattr(profile, "steps", lambda *, tiny: one)
    words = ["--tiny", "--json", str(tmp_path / "profile.json"), "--chart", str(tmp_path / "profile.png")]
    monkeypatch.setattr(sys, "argv", ["profile_step.py", *words])
    assert profile.main() == 0
    report = json.loads((tmp_path / "profile.json").read_text())
    (row,) = report["rows"]
    assert row["ratio"] == pytest.approx(row["ms"] / row["least_ms"])
    parts = sum(kind["ms"] for kind in row["kinds"])
    assert parts >= row["ms"] or parts == pytest.approx(row["ms"]), "what is left over is a kind, too"
    assert (tmp_path / "profile.png").stat().st_size > 10_000
