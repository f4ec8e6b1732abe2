"""The profile of a training step: kinds are told, work is counted, and watching changes no gradient."""

import json
import os
import subprocess
import sys
from itertools import count
from pathlib import Path
from types import ModuleType

import pytest
import torch

from metavision.engine.mapping import Mapper
from metavision.seeds import generator
from tests.scripts import ROOT, script

aten = torch.ops.aten


@pytest.fixture
def profile(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parent.parent.parent / "benchmarks")
    return script("profile_step", "benchmarks")


def test_operations_are_told_by_their_kind(profile: ModuleType) -> None:
    moments = pytest.importorskip("metavision.nn.compiled", exc_type=ModuleNotFoundError).moments
    tiles = pytest.importorskip("metavision.nn.winograd", exc_type=ModuleNotFoundError).tiles
    kinds = {
        aten.convolution.default: "convolution",
        tiles: "convolution: weight gradient",
        moments: "passes of blocks, compiled",
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
    """By a clock of our own: a step takes a second, and every kind of work in it a millisecond."""
    one, now = dict(list(profile.steps(tiny=True).items())[-1:]), count()
    monkeypatch.setattr(profile, "steps", lambda *, tiny: one)
    monkeypatch.setattr(profile, "clock", lambda _: lambda: next(now))
    monkeypatch.setattr(profile, "seconds", lambda _, labels, __: dict.fromkeys(labels.work, 0.001))
    monkeypatch.setattr(profile, "ceiling", lambda *_: {"flops": 4e9, "bytes": 2e9})
    words = ["--tiny", "--json", str(tmp_path / "profile.json"), "--chart", str(tmp_path / "profile.png")]
    monkeypatch.setattr(sys, "argv", ["profile_step.py", *words])
    assert profile.main() == 0
    (row,) = json.loads((tmp_path / "profile.json").read_text())["rows"]
    *kinds, overhead = row["kinds"]
    assert row["ms"] == 1000 and overhead["ms"] == pytest.approx(1000 - len(kinds)), "what is left over is a kind, too"
    for kind in kinds:
        assert kind["least_ms"] == pytest.approx(1e3 * max(kind["gflop"] / 4, kind["gb"] / 2))
    assert row["ratio"] == pytest.approx(1000 / sum(kind["least_ms"] for kind in kinds))
    assert (tmp_path / "profile.png").stat().st_size > 10_000


def test_what_it_cannot_do_is_one_line() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    asked = [sys.executable, str(ROOT / "benchmarks" / "profile_step.py"), "--device", "cuda"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "device=cuda is not here" in done.stderr


@pytest.mark.parametrize("name", ["profile_step", "mapping"])
def test_a_script_waits_and_keeps_memory_as_a_run_does(name: str) -> None:
    """Which must be set before torch is there."""
    code = f"""
import builtins, os, sys
sys.path[:0] = [{str(ROOT / "benchmarks")!r}]
plain = builtins.__import__
def watched(name, *given):
    if name == "torch" and "torch" not in sys.modules:
        print(os.environ.get("OMP_WAIT_POLICY"), "metavision.cli.process" in sys.modules, flush=True)
        os._exit(0)
    return plain(name, *given)
builtins.__import__ = watched
import {name}
"""
    env = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["passive", "True"]


def test_mappings_are_compared_in_the_numerics_of_a_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mapping = script("mapping", "benchmarks")
    monkeypatch.setattr(sys, "argv", ["mapping.py", "no such work"])
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    mapping.main()
    assert not torch.backends.cudnn.allow_tf32 and torch.__version__ in capsys.readouterr().out
