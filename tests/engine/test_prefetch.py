"""Batches made ahead: the same ones, errors at their step, no thread left, no random number taken from others."""

import random
import threading
import time
from contextlib import suppress

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from metavision.cli.__main__ import main
from metavision.data.augment.base import Compose
from metavision.data.augment.colour import ColorJitter
from metavision.data.augment.crop import RandomCrop, RandomResizedCrop
from metavision.data.augment.flip import RandomHorizontalFlip
from metavision.data.augment.randaugment import RandAugment
from metavision.data.batches import Augment, Episodes
from metavision.data.episodes import EpisodeSampler
from metavision.data.images import Images
from metavision.data.minibatches import Minibatches
from metavision.data.resident import resident
from metavision.data.spec import EpisodeSpec
from metavision.engine.prefetch import Prefetcher
from metavision.engine.train import _Trainer
from tests.cli.test_runs import rows, run_folder
from tests.conftest import toy_source

CPU = torch.device("cpu")


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("batches")]


@pytest.mark.parametrize("first", [0, 3])
def test_batches_are_those_of_their_steps_and_no_more(first: int) -> None:
    made = []

    def make(step: int) -> torch.Tensor:
        made.append(step)
        return torch.tensor(step)

    with Prefetcher(make, 6, CPU) as prefetcher:
        assert [int(prefetcher(step)) for step in range(first, 6)] == list(range(first, 6))
        assert threads()
    assert made == list(range(first, 6)) and not threads()


def test_the_next_batch_is_begun_before_it_is_asked_for() -> None:
    begun = threading.Event()

    def make(step: int) -> int:
        if step == 1:
            begun.set()
        return step

    with Prefetcher(make, 2, CPU) as prefetcher:
        assert prefetcher(0) == 0
        assert begun.wait(10)


def test_an_error_is_raised_at_its_step() -> None:
    def make(step: int) -> int:
        if step == 2:
            raise OSError("the disk is gone")
        return step

    with Prefetcher(make, 5, CPU) as prefetcher:
        assert [prefetcher(0), prefetcher(1)] == [0, 1]
        with pytest.raises(OSError, match="the disk is gone"):
            prefetcher(2)
    assert not threads()


def test_a_scope_that_is_left_by_an_interrupt_leaves_no_thread() -> None:
    def make(step: int) -> int:
        time.sleep(0.05)
        return step

    with suppress(KeyboardInterrupt), Prefetcher(make, 100, CPU) as prefetcher:
        prefetcher(0)
        raise KeyboardInterrupt
    assert not threads()


def test_batches_draw_from_no_global_generator() -> None:
    steps = [RandomCrop(padding=2), RandomResizedCrop(), ColorJitter(0.4, 0.4, 0.4, 0.1), RandomHorizontalFlip()]
    every = Compose([*steps, RandAugment()])
    source = toy_source(channels=3)
    images = Images(resident(source, CPU))
    augment = Augment(support=every, query=every, turn_classes=True, mix=0.5)
    episodes = Episodes(EpisodeSampler(source, EpisodeSpec(3, 1, 2), seed=0), images, augment)
    batches = Minibatches(source, images, 8, seed=0, augmentation=every)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    episodes.batch([0, 1])
    batches.batch([0, 20])
    assert random.getstate() == before[0] and np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[2])


@pytest.mark.parametrize("words", ["algo=protonet augment=rotations", "algo=rfs batch=8"])
def test_a_run_is_the_same_run_with_and_without(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that is interrupted and goes on."""
    few = [f"budget.{name}=2" for name in ("validation_episodes", "test_episodes", "checkpoint_every", "log_every")]
    settings = ["budget.steps=9", "budget.validate_every=9", "backbone.filters=4", "references=[]", "logger=none"]
    command = ["train", *words.split(), *few, *settings, "engine.threads=1"]
    assert main([*command, "outputs=plain", "engine.prefetch=false"]) == 0
    assert main([*command, "outputs=ahead", "engine.prefetch=true"]) == 0
    advance = _Trainer.advance

    def interrupted(trainer: _Trainer) -> None:
        if trainer.step == 5:
            raise KeyboardInterrupt
        advance(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(_Trainer, "advance", interrupted)
        assert main([*command, "outputs=twice", "engine.prefetch=true"]) == 130
    assert not threads()
    assert main([*command, "outputs=twice", "engine.prefetch=true"]) == 0
    plain = run_folder("plain")
    for other in (run_folder("ahead"), run_folder("twice")):
        assert rows(other) == rows(plain)
        ours, theirs = (load_file(run / "checkpoints" / "last.safetensors") for run in (other, plain))
        assert ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)
