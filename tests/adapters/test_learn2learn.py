"""learn2learn as an engine and as a source of tasks."""

import random
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metavision import build, trees
from metavision.cli.__main__ import main
from metavision.data.spec import EpisodeSpec
from metavision.engine.mapping import Mapper
from metavision.errors import InputError
from metavision.seeds import generator
from tests.algorithms.builds import built, composed
from tests.algorithms.test_maml import learn2learn
from tests.cli.test_runs import SMALL, rows, run_folder
from tests.conftest import toy_tasks

THEIRS = "engine=learn2learn"


@pytest.fixture(autouse=True)
def _installed() -> None:
    learn2learn()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("norm", ["batch", "running"])
@pytest.mark.parametrize("name", ["maml", "fomaml", "anil", "metasgd"])
def test_both_engines_give_the_same_gradients_and_logits(name: str, norm: str) -> None:
    settings = ["algo.steps=3", "algo.rule.lr=0.05", f"norm={norm}"]
    native, theirs = built(name, *settings), built(name, *settings, THEIRS)
    assert type(native) is not type(theirs)
    tasks = toy_tasks(tasks=2)
    meta = native.init(generator("engines"))
    (a, logs), (b, other) = (algorithm.meta_grad(meta, tasks, Mapper("loop")) for algorithm in (native, theirs))
    torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(other, logs, rtol=1e-9, atol=1e-12)
    meta = native.calibrate(meta, tasks.support.x.flatten(0, 1))
    episode = trees.index(tasks, 0)
    with torch.no_grad():
        ours, same = (
            algorithm.predict(meta, algorithm.adapt(meta, episode.support), episode.query.inputs)
            for algorithm in (native.for_evaluation(), theirs.for_evaluation())
        )
    assert not same.requires_grad and ours.isfinite().all()
    torch.testing.assert_close(same, ours, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("words", ["algo=boil", "algo=reptile", "algo=protonet", "algo=anil rule@algo.rule=learned_lr"])
def test_what_it_has_not_is_refused(words: str) -> None:
    name, *others = words.split()
    with pytest.raises(InputError, match="learn2learn"):
        built(name.removeprefix("algo="), *others, THEIRS)


@pytest.mark.slow
def test_runs_by_both_engines_are_alike(tmp_path: Path) -> None:
    for engine in ("native", "learn2learn"):
        assert main(["train", *SMALL, "logger=none", "budget.steps=6", f"engine={engine}", f"outputs={engine}"]) == 0
    ours, theirs = (rows(run_folder(engine)) for engine in ("native", "learn2learn"))
    assert run_folder("native").parent.name != run_folder("learn2learn").parent.name
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            assert a[key] == (b[key] if isinstance(a[key], str) else pytest.approx(b[key], rel=1e-3, abs=1e-5))


def tasksets(colour: float, n: int) -> Any:
    """Three task sets of made-up images: 10 classes of 8 images of 16 x 16."""
    l2l = learn2learn()
    transforms = l2l.data.transforms
    labels = [i // 8 for i in range(80)]
    images = torch.rand(80, 1, 16, 16, generator=generator("tasksets")) * 0.2 + colour
    images += torch.tensor(labels).view(-1, 1, 1, 1) / 20

    def one() -> Any:
        data = torch.utils.data.TensorDataset(images, torch.tensor(labels))
        indices = {label: [i for i in range(80) if labels[i] == label] for label in range(10)}
        meta = l2l.data.MetaDataset(data, indices_to_labels=dict(enumerate(labels)), labels_to_indices=indices)
        return l2l.data.Taskset(
            meta,
            task_transforms=[
                transforms.NWays(meta, 3),
                transforms.KShots(meta, n),
                transforms.LoadData(meta),
                transforms.RemapLabels(meta),
                transforms.ConsecutiveLabels(meta),
            ],
            num_tasks=-1,
        )

    return one(), one(), one()


TASKS = [
    "data=learn2learn",
    f"data.make={__name__}.tasksets",
    "~data.options",
    "+data.options={colour: 0.1, n: 5}",
    "episode.way=3",
    "episode.shot=2",
    "episode.query=3",
]


def source(split: str = "train") -> Any:
    return build.dataset(composed(*TASKS)).source(split)


def test_a_task_is_a_function_of_its_number_and_holds_what_was_asked() -> None:
    tasks, spec = source(), EpisodeSpec(3, 2, 3)
    random.seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002 - theirs
    one, again, other = tasks.task(spec, 1, 7), tasks.task(spec, 1, 7), tasks.task(spec, 1, 8)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002
    assert torch.equal(one.support.x, again.support.x) and not torch.equal(one.support.x, other.support.x)
    assert one.support.x.shape == (6, 1, 16, 16) and one.query.x.shape == (9, 1, 16, 16)
    assert one.support.y.bincount().tolist() == [2, 2, 2] and one.query.y.bincount().tolist() == [3, 3, 3]
    # Images of one label are of one class: its mean grey tells it.
    for label in range(3):
        greys = torch.cat([part.x[part.y == label] for part in one[:2]]).mean((1, 2, 3))
        assert greys.max() - greys.min() < 0.025
    both = torch.cat([one.support.x, one.query.x]).flatten(1)
    assert len(both.unique(dim=0)) == 15


def noisy(colour: float, n: int) -> Any:
    """The same with augmentation by torch's generator."""
    sets = tasksets(colour, n)

    def louder(plain: Any) -> Any:
        x, y = plain()
        return x + torch.rand(()), y

    for one in sets:
        one.sample = partial(louder, one.sample)
    return sets


def test_their_augmentation_is_a_function_of_the_tasks_number_too() -> None:
    words = [word.replace("tasksets", "noisy") if word.startswith("data.make") else word for word in TASKS]
    tasks, spec = build.dataset(composed(*words)).source("train"), EpisodeSpec(3, 2, 3)
    state = torch.random.get_rng_state()
    one, again = tasks.task(spec, 1, 7), tasks.task(spec, 1, 7)
    assert torch.equal(one.support.x, again.support.x) and torch.equal(torch.random.get_rng_state(), state)
    assert tasks.fingerprint == build.dataset(composed(*words)).source("train").fingerprint


def test_other_sizes_than_the_task_sets_are_refused() -> None:
    with pytest.raises(InputError, match=r"episode.shot=4 and episode.query=3 need 7 of 3"):
        source().task(EpisodeSpec(3, 4, 3), 1, 0)


def test_our_algorithms_train_on_them(capsys: pytest.CaptureFixture[str]) -> None:
    small = [word for word in SMALL if not word.startswith(("algo", "episode"))]
    words = [*small, *TASKS, "algo=protonet", "logger=none", "references=[untrained]"]
    assert main(["train", *words]) == 0
    assert "learn2learn test, 3-way 2-shot 3-query" in capsys.readouterr().out
    assert main(["train", *words, "algo=rfs"]) == 2
    assert "has no images to pre-train on" in capsys.readouterr().err


def test_a_function_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *TASKS, "data.make=nowhere.at_all", "logger=none"]) == 2
    assert "nowhere.at_all" in capsys.readouterr().err
