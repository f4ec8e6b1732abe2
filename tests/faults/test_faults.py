"""Faults of many kinds at many points of a run: none costs a finished result, nor a checkpoint older than an interval,
and each ends in the result of the undisturbed run or in one clear line, after which the same command goes on to it.
"""

import errno
import itertools
import os
import resource
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from metavision import trees
from metavision.algorithms.maml import MAML
from metavision.cli.__main__ import main
from metavision.cli.recorder import Recorder
from metavision.engine import checkpoint
from metavision.engine.checkpoint import Checkpoint
from metavision.engine.mapping import Mapper
from metavision.engine.train import PATIENCE, Plan, _Trainer
from metavision.interruption import INTERRUPTED, REQUEUE
from metavision.records.run import Run
from tests.faults.disk import Killed, Refusals, struck
from tests.faults.world import CHECKPOINTS, STEPS, World, assert_same, origin, photos

OPERATIONS = 110  # on the disk, of a whole run; a few more, but these must be there
QUICK = 2  # points of each kind in the default suite


class Setting:
    """What a fault is given to work with."""

    def __init__(
        self, whole: World, world: World, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.whole, self.world, self.patch, self.capsys = whole, world, patch, capsys
        self.reached = 0

        def stepped(recorder: Recorder, step: int) -> None:
            self.reached = max(self.reached, step)

        patch.setattr(Recorder, "stepped", stepped)

    def refused(self, code: int, *allowed: int) -> str:
        """The one line of a run that ended early."""
        error = self.capsys.readouterr().err
        lines = [line for line in error.splitlines() if line.startswith("metavision: error: ")]
        assert code in allowed and len(lines) == 1 and "Traceback" not in error, error
        return lines[0]

    def kept(self, behind: int = CHECKPOINTS) -> None:
        """No more than an interval of work is lost."""
        if self.reached:
            found = checkpoint.latest(Run(self.world.folder))
            assert found and found[1].step >= self.reached - behind

    def goes_on(self, *words: str) -> None:
        assert self.world.train(*words) == 0
        assert_same(self.world, self.whole)

    def suspended(self, step: int) -> None:
        """The run, put away behind a step."""
        with self.patch.context() as patch:

            def stepped(recorder: Recorder, done: int) -> None:
                self.reached = done
                if done == step:
                    signal.raise_signal(signal.SIGUSR1)

            patch.setattr(Recorder, "stepped", stepped)
            assert self.world.train() == REQUEUE
        assert checkpoint.read(self.world.checkpoint("last")).step == step
        self.capsys.readouterr()


# Each kind is a function of a point; `points` below are all different.


def killed(at: Setting, n: int) -> None:
    refusals = Refusals(n, Killed, lasting=True)
    with struck(at.world.folder, refusals), pytest.raises(Killed):
        at.world.train()
    at.kept()
    at.goes_on()


def killed_twice(at: Setting, n: int) -> None:
    for point in (n, n // 2):
        with struck(at.world.folder, Refusals(point, Killed, lasting=True)), suppress(Killed):
            at.world.train()  # the second time there may be little left to do
        at.kept()
    at.goes_on()


def refusing(number: int, *, lasting: bool) -> Callable[[Setting, int], None]:
    def refused(at: Setting, n: int) -> None:
        refusals = Refusals(n, lambda: OSError(number, os.strerror(number), "a file"), lasting=lasting)
        with struck(at.world.folder, refusals):
            code = at.world.train()
        assert refusals.fired
        if code:
            at.refused(code, 2)
        at.kept()
        at.goes_on()

    return refused


def files_too_large(at: Setting, largest: int) -> None:
    """By the system itself, in the middle of a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
    try:
        code = at.world.train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    at.refused(code, 2)
    assert not list(at.world.folder.rglob("*.draft"))
    at.kept()
    at.goes_on()


def signalled(number: int, code: int) -> Callable[[Setting, int], None]:
    def at_an_operation(at: Setting, n: int) -> None:
        seen = itertools.count()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background has ignored

        def strike() -> None:
            if next(seen) == n:
                signal.raise_signal(number)

        with struck(at.world.folder, strike):
            assert signal.Signals(number).name in at.refused(at.world.train(), code)
        assert next(seen) > n
        at.kept(behind=0 if not at.world.done and at.world.checkpoint("last").exists() else CHECKPOINTS)
        at.goes_on()

    return at_an_operation


def signalled_at_a_step(at: Setting, step: int) -> None:
    at.suspended(step)
    at.goes_on()


def turned(path: Path, place: int, bits: int) -> None:
    """Turns bits of the byte that stands `place` percent into a file."""
    content = bytearray(path.read_bytes())
    content[place * len(content) // 100] ^= bits
    path.write_bytes(content)


def a_byte_of_the_last_checkpoint(at: Setting, place: int) -> None:
    at.suspended(7)
    path = at.world.checkpoint("last")
    turned(path, place, 0x40)
    at.kept()
    at.goes_on()
    assert "the one before it is taken, of step 6" in at.capsys.readouterr().err


def a_cut_last_checkpoint(at: Setting, place: int) -> None:
    at.suspended(10)
    path = at.world.checkpoint("last")
    os.truncate(path, place * path.stat().st_size // 100)
    at.kept()
    at.goes_on()


def all_checkpoints(at: Setting, place: int) -> None:
    at.suspended(5)
    for name in ("last", "previous"):
        os.truncate(at.world.checkpoint(name), place * at.world.checkpoint(name).stat().st_size // 100)
    assert "rerun=true begins anew" in at.refused(at.world.train(), 2)
    at.goes_on("rerun=true")


def the_best_checkpoint(at: Setting, place: int) -> None:
    at.suspended(8)
    path = at.world.checkpoint("best")
    turned(path, place, 0x01)
    assert "what this run selected is lost" in at.refused(at.world.train(), 2)
    at.goes_on("rerun=true")


def out_of_memory(*, training: bool) -> Callable[[Setting, int], None]:
    """From the n-th call on there is room for fewer tasks than are asked for."""

    def shrinks(at: Setting, n: int) -> None:
        run, seen, refused = Mapper._run, itertools.count(), []

        def limited(mapper: Mapper, function: Any, params: Any, tasks: Any, part: slice) -> Any:
            if torch.is_grad_enabled() is training and next(seen) >= n and part.stop - part.start > 1 + n % 2:
                refused.append(part)
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
            return run(mapper, function, params, tasks, part)

        at.patch.setattr(Mapper, "_run", limited)
        assert at.world.train() == 0
        assert refused and "out of memory with up to" in at.capsys.readouterr().err
        assert_same(at.world, at.whole, exact=False)

    return shrinks


def out_of_memory_for_one_task(at: Setting, n: int) -> None:
    with at.patch.context() as patch:
        run, seen = Mapper._run, itertools.count()

        def limited(mapper: Mapper, *rest: Any) -> Any:
            if next(seen) >= n:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
            return run(mapper, *rest)

        patch.setattr(Mapper, "_run", limited)
        assert "memory" in at.refused(at.world.train(), 1, 2)  # the second: in the trial by which a mapper is chosen
    at.kept()
    at.goes_on()


@contextmanager
def not_finite(at: Setting, step: int, what: str) -> Iterator[None]:
    meta_grad = Plan.meta_grad

    def spoiled(plan: Plan, meta: Any, tasks: Any, now: int, by: Any = None) -> Any:
        grads, logs = meta_grad(plan, meta, tasks, now, by)
        if now == step:
            grads = {name: g * float(what) for name, g in grads.items()}
            logs |= {"loss": logs["loss"] * float(what)} if step % 2 else {}
        return grads, logs

    with at.patch.context() as patch:
        patch.setattr(Plan, "meta_grad", spoiled)
        yield


def a_gradient_that_stops(at: Setting, step: int) -> None:
    with not_finite(at, step, "nan" if step % 3 else "inf"):
        line = at.refused(at.world.train(), 1)
    assert f"at step {step + 1} " in line and "the last good checkpoint" in line
    at.kept()
    at.goes_on()


def a_gradient_that_is_skipped(at: Setting, step: int) -> None:
    with not_finite(at, step, "inf" if step % 3 else "nan"):
        assert at.world.train("engine.on_nan=skip") == 0
    assert sum(row.get("lost_steps", 0) for row in at.world.rows()) == 1
    oracle = World(at.world.data, at.world.folder.parent / "oracle")
    descend = _Trainer._descend
    at.patch.setattr(
        _Trainer, "_descend", lambda trainer, *rest: None if trainer.step == step else descend(trainer, *rest)
    )
    assert oracle.train() == 0
    assert_same_weights(at.world, oracle)


def a_gradient_that_is_rolled_back(at: Setting, step: int) -> None:
    """As if the weights of the last checkpoint had been those behind the steps that were lost."""
    with not_finite(at, step, "nan"):
        assert at.world.train("engine.on_nan=rollback") == 0
    logged = next(done for done in (3, 4, 6, 8, 9, 12) if done > step)
    saved = max(done for done in (0, 4, 6, 8) if done < logged)
    assert sum(row.get("lost_steps", 0) for row in at.world.rows()) == logged - saved
    oracle = Setting(at.whole, World(at.world.data, at.world.folder.parent / "oracle"), at.patch, at.capsys)
    if saved:
        oracle.suspended(saved)
    else:
        with at.patch.context() as patch:
            patch.setattr(_Trainer, "advance", raising(Killed()))
            with pytest.raises(Killed):
                oracle.world.train()
    path = oracle.world.checkpoint("last")
    found = checkpoint.read(path)
    checkpoint.save(path, Checkpoint(found.meta, {**found.about, "step": logged}, found.optimizer))
    assert oracle.world.train() == 0
    assert_same_weights(at.world, oracle.world)


def weights_that_are_not_finite(policy: str) -> Callable[[Setting, int], None]:
    """Behind a step whose loss and gradient were: no checkpoint has them, whatever the steps behind it come to."""

    def stops(at: Setting, step: int) -> None:
        descend = _Trainer._descend

        def spoiled(trainer: _Trainer, *rest: Any) -> None:
            descend(trainer, *rest)
            if trainer.step == step:
                with torch.no_grad():
                    next(iter(trainer.params.values())).fill_(float("inf"))

        with at.patch.context() as patch:
            patch.setattr(_Trainer, "_descend", spoiled)
            at.refused(at.world.train(f"engine.on_nan={policy}"), 1)
        for name in ("last", "best"):
            weights = checkpoint.read(at.world.checkpoint(name)).meta.params
            assert all(torch.isfinite(tensor).all() for tensor in weights.values())
        at.kept()
        at.goes_on()

    return stops


def a_dashboard_that_fails(at: Setting, n: int) -> None:
    """At its n-th call."""
    seen = itertools.count()

    class Broken:
        def answer(self, *_: object) -> None:
            if next(seen) >= n:
                raise ConnectionError("the server is on fire")

        start = log = finish = answer

    at.patch.setattr("metavision.build.tracker", lambda _: Broken())
    at.goes_on()
    assert "on fire" in at.capsys.readouterr().err


def a_clock_that_jumps(at: Setting, n: int) -> None:
    seen, kind = itertools.count(), n % 4

    def jumping(right: Callable[[], float]) -> Callable[[], float]:
        def clock() -> float:
            if next(seen) < n:
                return right()
            return (0.0, right() - 1e6, right() + 1e9, -next(seen))[kind]

        return clock

    for name in ("perf_counter", "monotonic", "time"):
        at.patch.setattr(time, name, jumping(getattr(time, name)))
    at.goes_on()


def data_that_is_replaced(at: Setting, step: int) -> None:
    own = photos(at.world.folder.parent / "photos")
    at.world = World(own, at.world.folder.parent / "own")
    at.suspended(step)
    kept = at.world.checkpoint("last").read_bytes()
    photos(own, seed=step)
    assert "the data has changed since step" in at.refused(at.world.train(), 2)
    assert at.world.checkpoint("last").read_bytes() == kept
    photos(own)
    assert at.world.train() == 0


PARTS = {
    "images.npy": lambda content: content[:128] + bytes(len(content) - 128),
    "rows.npy": lambda content: content[: len(content) // 2],
    "labels.npy": lambda content: b"",
    "digests.npy": lambda content: content[:-7],
    "manifest.json": lambda content: content[: len(content) // 2],
    "splits.json": lambda content: content[: len(content) // 3],
    "names.txt": None,
}


def a_pack_that_is_damaged(at: Setting, which: int) -> None:
    at.patch.setenv("METAVISION_CACHE", str(at.world.folder.parent / "cache"))
    at.suspended(5)
    (pack,) = (path for path in (at.world.folder.parent / "cache").iterdir() if path.is_dir())
    name, spoil = list(PARTS.items())[which]
    if spoil:
        (pack / name).write_bytes(spoil((pack / name).read_bytes()))
        assert "is damaged" in at.refused(at.world.train(), 2)
        shutil.rmtree(pack)
    else:
        (pack / name).unlink()  # not needed to train
    at.goes_on()


RUBBISH = (
    b'{"step": 9, "spl',
    b"\xff\xfe\x00\n",
    b"\0" * 500,
    b"\n\n[]\n",
    b'{"step": 11, "split": "train"}\n',
    b"7\n",
)


def metrics_that_are_damaged(at: Setting, which: int) -> None:
    at.suspended(8)
    with (at.world.folder / "metrics.jsonl").open("ab") as file:
        file.write(RUBBISH[which])
    at.goes_on()


def code_that_raises(at: Setting, n: int) -> None:
    """An error of the program itself: a traceback, and the run goes on where it was."""
    adapt, seen = MAML.adapt, itertools.count()

    def faulty(algorithm: MAML, *rest: Any) -> Any:
        if next(seen) == n:
            raise ZeroDivisionError("of the user's own")
        return adapt(algorithm, *rest)

    with at.patch.context() as patch:
        patch.setattr(MAML, "adapt", faulty)
        assert at.world.train() == 1
    assert "of the user's own" in at.capsys.readouterr().err
    at.kept()
    at.goes_on()


def a_finished_run(at: Setting, n: int) -> None:
    """Is shown, or not, and stays what it is."""
    assert at.world.train() == 0
    before = at.world.bytes()
    at.capsys.readouterr()
    kind = (OSError(errno.EROFS, "Read-only file system", "a file"), Killed())[n % 2]
    with struck(at.world.folder, Refusals(n // 2, lambda: kind, lasting=True)):
        try:
            if (code := at.world.train()) != 0:
                at.refused(code, 2)
        except Killed:
            pass
    assert at.world.bytes() == before
    at.goes_on()
    assert at.world.bytes() == before


def evaluations_of_a_finished_run(at: Setting, n: int) -> None:
    assert at.world.train() == 0
    before = at.world.bytes()
    command = ["evaluate", f"run={at.world.folder}", "episodes=4", "engine.threads=1"]
    with struck(at.world.folder, Refusals(n, Killed, lasting=True)), pytest.raises(Killed):
        main(command)
    assert at.world.bytes() == before
    assert main(command) == 0
    (made,) = at.world.folder.glob("evaluations/*/DONE")
    assert Run(made.parent).read("result.json")["episodes"]["n"] == 4
    assert at.world.bytes() == before


def raising(error: BaseException) -> Callable[..., Any]:
    def raises(*_: object) -> Any:
        raise error

    return raises


def assert_same_weights(ours: World, theirs: World) -> None:
    a, b = (checkpoint.read(world.checkpoint("last")) for world in (ours, theirs))
    assert a.step == b.step == STEPS
    assert float(trees.norm(trees.add(a.meta.params, trees.scale(b.meta.params, -1)))) == 0


KINDS: dict[str, tuple[Callable[[Setting, int], None], list[int]]] = {
    "killed": (killed, list(range(0, OPERATIONS, 3))),
    "killed twice": (killed_twice, list(range(20, OPERATIONS, 10))),
    "disk full from then on": (refusing(errno.ENOSPC, lasting=True), list(range(0, OPERATIONS, 5))),
    "quota met once": (refusing(errno.EDQUOT, lasting=False), list(range(1, OPERATIONS, 9))),
    "no right to write": (refusing(errno.EACCES, lasting=True), list(range(2, OPERATIONS, 8))),
    "read-only from then on": (refusing(errno.EROFS, lasting=True), list(range(3, OPERATIONS, 10))),
    "disk that fails once": (refusing(errno.EIO, lasting=False), list(range(4, OPERATIONS, 8))),
    "files too large": (files_too_large, [1, 100, 400, 900, 1500, 2500, 3500, 5000]),
    "SIGTERM": (signalled(signal.SIGTERM, REQUEUE), list(range(0, OPERATIONS, 8))),
    "SIGINT": (signalled(signal.SIGINT, INTERRUPTED), list(range(5, OPERATIONS, 10))),
    "SIGUSR1 at a step": (signalled_at_a_step, list(range(1, STEPS + 1))),
    "a bit of the last checkpoint": (a_byte_of_the_last_checkpoint, list(range(0, 100, 7))),
    "the last checkpoint cut": (a_cut_last_checkpoint, [0, 1, 10, 50, 90, 99]),
    "both checkpoints cut": (all_checkpoints, [0, 20, 50, 70, 95]),
    "a bit of the best checkpoint": (the_best_checkpoint, [0, 10, 40, 70, 99]),
    "out of memory in training": (out_of_memory(training=True), [0, 1, 2, 5, 6, 11]),
    "out of memory in evaluation": (out_of_memory(training=False), [0, 1, 2, 3, 4]),
    "out of memory for a task": (out_of_memory_for_one_task, [1, 2, 5, 9, 14]),
    "gradient not finite: stop": (a_gradient_that_stops, list(range(0, STEPS, 2))),
    "gradient not finite: skip": (a_gradient_that_is_skipped, [0, 2, 5, 7, 11]),
    "gradient not finite: rollback": (a_gradient_that_is_rolled_back, [0, 3, 4, 7, 10]),
    "weights not finite: stop": (weights_that_are_not_finite("stop"), [0, 3, 5, 8, 11]),
    "weights not finite: skip": (weights_that_are_not_finite("skip"), [0, 3, 5, 6, 11]),
    "dashboard fails": (a_dashboard_that_fails, [0, 1, 3, 6, 9]),
    "clock jumps": (a_clock_that_jumps, [0, 1, 2, 3, 6, 9, 12]),
    "data replaced": (data_that_is_replaced, [1, 4, 6, 9, 11]),
    "pack damaged": (a_pack_that_is_damaged, list(range(len(PARTS)))),
    "metrics damaged": (metrics_that_are_damaged, list(range(len(RUBBISH)))),
    "code that raises": (code_that_raises, [0, 2, 4, 8, 12]),
    "fault beside a finished run": (a_finished_run, [0, 1, 2, 3, 4]),
    "evaluation killed": (evaluations_of_a_finished_run, [1, 4, 7, 9, 12]),
}
CASES = [
    pytest.param(kind, point, id=f"{kind}, {point}", marks=[] if turn < QUICK else pytest.mark.slow)
    for kind, (_, points) in KINDS.items()
    for turn, point in enumerate(points)
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos(tmp_path_factory.mktemp("faults") / "photos")


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The undisturbed run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAVISION_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("metavision.cli.training.provenance", origin)
        world = World(data, tmp_path_factory.mktemp("whole"))
        assert world.train() == 0
        return world


@pytest.mark.parametrize(("kind", "point"), CASES)
def test_it_survives(
    kind: str,
    point: int,
    whole: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("metavision.cli.training.provenance", origin)
    inject, _ = KINDS[kind]
    inject(Setting(whole, World(whole.data, tmp_path), monkeypatch, capsys), point)


@pytest.mark.parametrize("name", ["last", "best"])
def test_wherever_it_is_killed_the_best_checkpoint_is_of_the_step_that_was_selected(
    name: str, whole: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As soon as it goes on: later, where bits are not the same again, nothing might write that file any more."""
    monkeypatch.setattr("metavision.cli.training.provenance", origin)
    world, save, begun = World(whole.data, tmp_path), checkpoint.save, Recorder.started
    selected = checkpoint.read(whole.checkpoint("best")).step
    assert selected > 0

    def dies(path: Path, found: Checkpoint) -> None:
        if path == world.checkpoint(name) and found.step == selected:
            raise Killed
        save(path, found)

    def started(recorder: Recorder, step: int) -> None:
        about = checkpoint.read(world.checkpoint("last")).about
        assert checkpoint.read(world.checkpoint("best")).step == about["best"]["step"]
        begun(recorder, step)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", dies)
        with pytest.raises(Killed):
            world.train()
    monkeypatch.setattr(Recorder, "started", started)
    assert world.train() == 0
    assert_same(world, whole)


@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_what_never_heals_ends(
    policy: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    meta_grad = Plan.meta_grad

    def spoiled(*given: Any) -> Any:
        grads, logs = meta_grad(*given)
        return {name: g * float("nan") for name, g in grads.items()}, logs

    monkeypatch.setattr(Plan, "meta_grad", spoiled)
    world = World(data, tmp_path)
    assert world.train(f"engine.on_nan={policy}", "budget.log_every=1", "budget.steps=30") == 1
    assert "10 times in a row; the last good checkpoint is" in capsys.readouterr().err
    assert len(world.rows()) == 1 + PATIENCE + 1  # the steps, and the validations ahead of them and in between


def test_enough_is_injected(capsys: pytest.CaptureFixture[str]) -> None:
    counted = Counter({kind: len(set(points)) for kind, (_, points) in KINDS.items()})
    with capsys.disabled():
        print("\n" + "\n".join(f"{n:>4} {kind}" for kind, n in counted.most_common()))
        print(f"{counted.total():>4} faults of {len(counted)} kinds")
    assert counted.total() >= 200 and len(counted) >= 10 and min(counted.values()) >= 5
