"""The outer loop: meta-gradients, validation, selection, checkpoints; resumable at any point with the same bits."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from metavision import interruption, trees
from metavision.algorithms.base import Algorithm
from metavision.console import note
from metavision.data.batches import Episodes
from metavision.data.minibatches import Minibatches
from metavision.data.own import OwnEpisodes
from metavision.engine import checkpoint as checkpoints
from metavision.engine import ranks
from metavision.engine.checkpoint import Checkpoint
from metavision.engine.evaluate import Fit, evaluate
from metavision.engine.mapping import Mapper
from metavision.engine.optimizing import descend
from metavision.engine.prefetch import Prefetcher
from metavision.engine.schedules import Schedule
from metavision.engine.sharing import Share
from metavision.engine.shrinking import Shrinking
from metavision.errors import Diverged, InputError
from metavision.records.run import Run
from metavision.records.selection import Best
from metavision.records.statistics import estimate
from metavision.seeds import seed
from metavision.types import CARRIED, Meta, Metrics, P

OnNan = Literal["stop", "skip", "rollback"]
SPLITS_USED = ("split_hash", "validation_split_hash")  # of a plan's `about`
PATIENCE = 10  # windows of the log that may be lost one after another: what comes once heals, what stays does not


@dataclass(frozen=True)
class Plan:
    """All that meta-training needs, built and checked.

    Args:
        algorithm: with its training settings.
        tester: the same with its test-time settings, for the classes of a validation episode.
        meta: what training starts from.
        optimizer: makes the outer optimizer of a list of tensors.
        schedule: factor on its learning rate.
        train: episodes to learn from, or batches of images.
        validation: episodes to select by.
        train_mapper: maps over the tasks of a step.
        fit: chooses how the tasks of an evaluation are mapped.
        prefetch: whether the next batch is made in a thread while the device works.
        meta_batch: tasks a step.
        steps: outer steps.
        validate_every: steps; likewise `checkpoint_every` and `log_every`.
        validation_episodes: how many.
        patience: validations without a better one after which training stops; None: never.
        keep_best: whether the best validation's checkpoint is kept (else the last one's is).
        clip: largest norm of the meta-gradient; None: no clipping.
        on_nan: what follows a loss or gradient that is not finite: `stop`; `skip`, the weights stay as they are, which
            asks the device after every step; `rollback`, weights and optimizer are those of the last checkpoint again,
            and training goes on with the tasks behind the fault, as in PaLM: Scaling Language Modeling with Pathways
            (Chowdhery et al., 2022), https://arxiv.org/abs/2204.02311, section 5.1.
        calibration_images: from which statistics are taken where normalisation runs on any.
        seed: of the run.
        about: JSON that goes into every checkpoint.
    """

    algorithm: Algorithm
    tester: Algorithm
    meta: Meta
    optimizer: Callable[[list[torch.Tensor]], torch.optim.Optimizer]
    schedule: Schedule
    train: Episodes | OwnEpisodes | Minibatches
    validation: Episodes | OwnEpisodes
    train_mapper: Mapper
    fit: Fit
    prefetch: bool
    meta_batch: int
    steps: int
    validate_every: int
    checkpoint_every: int
    log_every: int
    validation_episodes: int
    patience: int | None
    keep_best: bool
    clip: float | None
    on_nan: OnNan
    calibration_images: int
    seed: int
    about: dict[str, Any]

    @property
    def share(self) -> Share:
        """What of a step falls to this process."""
        return Share(self.train, self.meta_batch)

    def batch(self, step: int) -> Any:
        """The tasks of a step, or this process's share of them."""
        return self.share.batch(step)

    def meta_grad(self, meta: Meta, tasks: Any, step: int, by: Mapper | None = None) -> tuple[P, Metrics]:
        """The direction of a step by these tasks, and what to log; of no tasks, zeros and nothing.

        `by` another mapper than the plan's.
        """
        if tasks is None:
            return trees.scale(meta.params, 0.0), {}
        with self.share.scope():
            return (by or self.train_mapper).meta_grad(self.algorithm.at(step / self.steps), meta, tasks)


class Observer(Protocol):
    """Who is told about the course of training."""

    def started(self, step: int) -> None:
        """Training begins, or goes on, behind `step` steps."""
        ...

    def stepped(self, step: int) -> None:
        """A step is done; called often, must be cheap."""
        ...

    def logged(self, row: dict[str, Any], tasks: int) -> None:
        """A row for the metrics; `tasks` were worked on since the last one."""
        ...


def train(plan: Plan, run: Run, observer: Observer) -> Checkpoint:
    """Meta-trains to the end and returns the selected checkpoint, going on from the run's last one if there is one.

    Raises:
        Diverged: the loss is not finite.
        NoMemory: one task takes more than the device has.
        InputError: the run's checkpoints are damaged, don't fit, or are of other data.
        Interrupted: a signal asked for the end; a checkpoint of the last whole step is there.
    """
    with _batches(plan) as batch, interruption.patient() as heard:
        trainer, asked = _Trainer(plan, run, observer, batch), 0
        while trainer.step < plan.steps and not trainer.stopped and not (asked := ranks.most(heard())):
            trainer.advance()
        if asked:
            trainer.suspend()
            raise interruption.Interrupted(asked, agreed=True)
    return ranks.from_first(lambda: checkpoints.read(run.checkpoint("best" if plan.keep_best else "last")))


@contextmanager
def _batches(plan: Plan) -> Iterator[Callable[[int], Any]]:
    """The tasks of a step, by its number."""
    if not plan.prefetch:
        yield plan.batch
        return
    with Prefetcher(plan.batch, plan.steps, plan.train.device) as prefetcher:
        yield prefetcher


class _Trainer:
    """The moving state of a run: parameters, optimizer, step, selection."""

    def __init__(self, plan: Plan, run: Run, observer: Observer, batch: Callable[[int], Any]) -> None:
        self.plan, self.run, self.observer, self.batch = plan, run, observer, batch
        self.step, self.best = 0, Best()
        self.params: P = {name: p.detach().clone().requires_grad_() for name, p in plan.meta.params.items()}
        # torch's optimizers want one tensor at least; where there is nothing to learn, no step is taken.
        self.learned = trees.without(self.params, CARRIED)
        self.optimizer = plan.optimizer(list(self.learned.values()) or [torch.zeros(1)])
        self.base_lr = [group["lr"] for group in self.optimizer.param_groups]
        # Done again by one process alone, a step within which all wait for each other would never end.
        self.mapper = Shrinking(plan.train_mapper, train=not plan.share.of_images)
        self.window: list[Metrics] = []  # since the last log; on the device, so that steps need not wait
        self.before: list[Metrics] = []  # ahead of them, before an interruption; on the CPU, of all processes
        self.lost = 0  # windows in a row
        self.lr = float("nan")
        self.calibrated: tuple[int, Meta] | None = None  # of a step: for its validation and both checkpoints
        self.saved = -1  # the step of the last checkpoint
        # Sent by the first process, since others may see an older file, or none, on a shared disk.
        resumed = ranks.from_first(lambda: checkpoints.latest(run))
        if resumed is not None:
            self._resume(*resumed)
            last = run.checkpoint("last")
            if resumed[0] != last and ranks.first():  # a damaged one must not become the previous
                last.unlink(missing_ok=True)
        run.rewind(-1 if resumed is None else self.step)  # a run killed before its first checkpoint may have logged
        observer.started(self.step)
        if resumed is None:
            self._validate()
            self._keep()

    @property
    def meta(self) -> Meta:
        return Meta(trees.detach(self.params), {})

    @property
    def stopped(self) -> bool:
        return self.plan.patience is not None and self.best.stale >= self.plan.patience

    def advance(self) -> None:
        """One outer step, and what is due after it."""
        plan = self.plan
        # Of what drops at random, also after a resumption; other draws in every process, as its tasks are others.
        noise = seed("noise", plan.seed, self.step, *([ranks.number()] if ranks.number() else []))

        def meta_grad(by: Mapper, tasks: Any) -> tuple[P, Metrics]:
            torch.manual_seed(noise)
            return plan.meta_grad(self.meta, tasks, self.step, by)

        grads, logs = self.mapper(meta_grad, self.batch(self.step))
        grads = ranks.average(grads, plan.share.weight)
        norm = trees.norm(trees.without(grads, CARRIED))
        if carried := trees.select(grads, CARRIED):  # no part of the norm, unless it is not finite
            norm = norm + 0 * trees.norm(carried)
        self.window.append({**logs, "gradient_norm": norm})
        if plan.on_nan != "skip" or not ranks.most(not _finite(self.window[-1])):
            self._descend(grads, norm)
        self.step += 1
        self.observer.stepped(self.step)
        validating, saving = self._due(plan.validate_every), self._due(plan.checkpoint_every)
        if validating or saving or self._due(plan.log_every):
            self._log()
        if validating:
            self._validate()
        if validating or saving:
            self._keep()

    def suspend(self) -> None:
        """Puts the run away between two steps; what is logged of them is logged when it goes on."""
        self.before, self.window = self._steps(), []
        # A step that is not finite shows in the log, which is not due yet; one that is skipped does no harm.
        sound = _finite(self.params) and (self.plan.on_nan == "skip" or all(map(_finite, self.before)))
        if self.saved != self.step and sound:
            self._save("last")
        note(f"suspended behind step {self.step}, with the checkpoint of step {self.saved}")

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.plan.steps

    def _descend(self, grads: P, norm: torch.Tensor) -> None:
        with torch.no_grad():
            for name in self.params.keys() - self.learned.keys():
                self.params[name] -= grads[name]
        if self.plan.clip is not None:
            grads = trees.scale(grads, (self.plan.clip / norm).clamp(max=1.0))
        for group, base in zip(self.optimizer.param_groups, self.base_lr, strict=True):
            group["lr"] = self.lr = base * self.plan.schedule(self.step, self.plan.steps)
        for name, parameter in self.learned.items():
            parameter.grad = grads[name]
        descend(self.optimizer)

    def _steps(self) -> list[Metrics]:
        """What the steps since the last log logged, over all processes; on the CPU."""
        if not self.window:
            return self.before
        weight, series = self.plan.share.weight, {}
        if weight:  # one without work has fewer figures
            series = {name: values.double().cpu() for name, values in trees.stack(self.window).items()}
        series = ranks.average_logs(series, weight)
        return self.before + [{name: values[i] for name, values in series.items()} for i in range(len(self.window))]

    def _log(self) -> None:
        if not (steps := self._steps()):
            return
        series = trees.stack(steps)
        finite = torch.isfinite(series["loss"]) & torch.isfinite(series["gradient_norm"])
        fresh, self.window, self.before = len(self.window), [], []
        row = {"step": self.step, "split": "train"} | {name: float(v[finite].mean()) for name, v in series.items()}
        sound = _finite(self.params)
        if sound and finite.all():
            self.lost = 0
        else:
            row["lost_steps"] = self._lose(self._fault(series, finite), finite, sound=sound)
        self.observer.logged(row | {"lr": self.lr}, fresh * self.plan.meta_batch)

    def _fault(self, series: Metrics, finite: torch.Tensor) -> str:
        """What is wrong with a window of the log."""
        if finite.all():
            return f"the weights are not finite behind step {self.step}"
        bad = int(finite.logical_not().nonzero()[0])
        loss = float(series["loss"][bad])
        what = "the meta-gradient is not finite" if math.isfinite(loss) else f"the loss is {loss}"
        return f"{what} at step {self.step - len(finite) + bad + 1}"

    def _lose(self, what: str, finite: torch.Tensor, *, sound: bool) -> int:
        """What follows a window of the log of which not all steps are `finite`; how many came to nothing.

        Args:
            what: is wrong.
            finite: by step.
            sound: whether the weights are finite behind them.

        Raises:
            Diverged: training is to stop, or there is no end to it.
        """
        what = f"{what} (learning rate {self.lr:g})"
        # Weights can't be what they were before a step whose own figures were finite, but by a checkpoint.
        skipping = self.plan.on_nan == "skip" and sound
        self.lost = 0 if skipping and finite.any() else self.lost + 1
        over = self.lost > PATIENCE
        if skipping and not over:
            skipped = int(finite.logical_not().sum())
            note(f"{what}; {skipped} of {len(finite)} steps are skipped")
            return skipped
        last = ranks.from_first(lambda: checkpoints.latest(self.run))
        assert last is not None  # there is one from the beginning
        path, found = last
        if over or self.plan.on_nan != "rollback":
            again = f", {PATIENCE} times in a row" if over else ""
            raise Diverged(f"{what}{again}; the last good checkpoint is {path}, of step {found.step}")
        self._restore(found)
        note(f"{what}; back to the weights of step {found.step}, on with the tasks of step {self.step + 1}")
        return self.step - found.step

    def _validate(self) -> None:
        plan, meta = self.plan, self._calibrated()
        scores = evaluate(plan.tester, meta, plan.validation, plan.validation_episodes, plan.fit).metrics
        problem = plan.tester.problem
        figure = estimate(scores[problem.metric], "episodes")
        if not math.isfinite(figure.mean):
            raise Diverged(f"the validation {problem.metric} is {figure.mean} at step {self.step}")
        means = {name: float(values.mean()) for name, values in scores.items()}
        row = {"step": self.step, "split": "val"} | means | {f"{problem.metric}_half_width": figure.half_width}
        self.best = self.best.seen(self.step, figure.mean if problem.higher else -figure.mean)
        self.observer.logged(row, 0)

    def _calibrated(self) -> Meta:
        if self.calibrated is None or self.calibrated[0] != self.step:
            images = self.plan.train.pool(self.plan.calibration_images)
            self.calibrated = self.step, self.plan.tester.calibrate(self.meta, images)
        return self.calibrated[1]

    def _keep(self) -> None:
        """The last checkpoint, which names the best step, and then that step's, so that it can be mended."""
        self._save("last")
        if self.plan.keep_best and self.best.step == self.step:
            self._save("best")

    def _save(self, name: str) -> None:
        if not ranks.first():
            return
        moved = self.optimizer.state if name == "last" else {}
        state = {p: moved[tensor] for p, tensor in self.learned.items() if tensor in moved}
        optimizer = {p: {k: torch.as_tensor(v) for k, v in s.items() if v is not None} for p, s in state.items()}
        window = [{key: float(value) for key, value in figures.items()} for figures in self.before]
        about = {**self.plan.about, "step": self.step, "best": self.best.as_dict(), "window": window}
        checkpoints.save(self.run.checkpoint(name), Checkpoint(self._calibrated(), about, optimizer))
        if name == "last":
            self.saved = self.step

    def _resume(self, path: Path, last: Checkpoint) -> None:
        checkpoints.fits(self.params, last.meta.params, path)
        for split in SPLITS_USED:
            now, then = self.plan.about[split], last.about.get(split)
            if then not in (None, now):
                raise InputError(
                    f"the data has changed since step {last.step} of this run: its {split} is {now}, and was {then}; "
                    "put it back as it was, or begin anew with rerun=true"
                )
        self.step, self.saved, self.best = last.step, last.step, Best(**last.about["best"])
        self.before = [
            {key: torch.tensor(value, dtype=torch.float64) for key, value in figures.items()}
            for figures in last.about.get("window", [])
        ]
        self._restore(last)
        if self.plan.keep_best and self.best.step >= 0 and ranks.first():
            self._check_best(last)

    def _check_best(self, last: Checkpoint) -> None:
        """The selected checkpoint is there, and the one that was selected: now, and not when training is over.

        Raises:
            InputError: it is lost.
        """
        path, lost = self.run.checkpoint("best"), "what this run selected is lost"
        if self.best.step == last.step:  # the end may have come between the two files
            checkpoints.save(path, replace(last, optimizer={}))
        try:
            step = checkpoints.read(path).step
        except InputError as error:
            raise InputError(f"{error}; {lost}: rerun=true begins anew") from error
        if step != self.best.step:  # a last checkpoint that was damaged had named it
            note(f"{path} is of step {step}, not of {self.best.step}: {lost}, unless step {step} or a better comes")

    def _restore(self, last: Checkpoint) -> None:
        """The weights and the optimizer of a checkpoint."""
        with torch.no_grad():
            for name, parameter in self.params.items():
                parameter.copy_(last.meta.params[name])
        state = {i: last.optimizer[name] for i, name in enumerate(self.learned) if name in last.optimizer}
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})


def _finite(tree: Mapping[str, torch.Tensor]) -> bool:
    found = [torch.isfinite(tensor).all() for tensor in tree.values()]
    return not found or bool(torch.stack(found).all())  # one question to the device
