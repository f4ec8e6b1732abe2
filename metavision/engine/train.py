"""The outer loop: meta-gradients, validation, selection, checkpoints; resumable at any point with the same bits."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from metavision import trees
from metavision.algorithms.base import Algorithm
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
from metavision.errors import Diverged
from metavision.records.run import Run
from metavision.records.selection import Best
from metavision.records.statistics import estimate
from metavision.seeds import seed
from metavision.types import Meta, Metrics, P


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

    def meta_grad(self, meta: Meta, tasks: Any, step: int) -> tuple[P, Metrics]:
        """The direction of a step by these tasks, and what to log; of no tasks, zeros and nothing."""
        if tasks is None:
            return trees.scale(meta.params, 0.0), {}
        with self.share.scope():
            return self.train_mapper.meta_grad(self.algorithm.at(step / self.steps), meta, tasks)


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
        InputError: the run's last checkpoint is damaged or does not fit.
    """
    with _batches(plan) as batch:
        trainer = _Trainer(plan, run, observer, batch)
        while trainer.step < plan.steps and not trainer.stopped:
            trainer.advance()
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
        self.optimizer = plan.optimizer(list(self.params.values()) or [torch.zeros(1)])
        self.base_lr = [group["lr"] for group in self.optimizer.param_groups]
        self.window: list[Metrics] = []  # since the last log; on the device, so that steps need not wait
        self.lr = float("nan")
        self.calibrated: tuple[int, Meta] | None = None  # of a step: for its validation and both checkpoints
        path = run.checkpoint("last")
        # Sent by the first process, since others may see an older file, or none, on a shared disk.
        last = ranks.from_first(lambda: checkpoints.read(path) if path.is_file() else None)
        if last is not None:
            self._resume(last)
        run.rewind(-1 if last is None else self.step)  # a run killed before its first checkpoint may have logged step 0
        observer.started(self.step)
        if last is None:
            self._validate()
            self._save("last")

    @property
    def meta(self) -> Meta:
        return Meta(trees.detach(self.params), {})

    @property
    def stopped(self) -> bool:
        return self.plan.patience is not None and self.best.stale >= self.plan.patience

    def advance(self) -> None:
        """One outer step, and what is due after it."""
        plan = self.plan
        tasks = self.batch(self.step)
        # Of what drops at random, also after a resumption; other draws in every process, as its tasks are others.
        torch.manual_seed(seed("noise", plan.seed, self.step, *([ranks.number()] if ranks.number() else [])))
        grads, logs = plan.meta_grad(self.meta, tasks, self.step)
        grads = ranks.average(grads, plan.share.weight)
        norm = trees.norm(grads)
        self.window.append({**logs, "gradient_norm": norm})
        self._descend(grads, norm)
        self.step += 1
        self.observer.stepped(self.step)
        validating, saving = self._due(plan.validate_every), self._due(plan.checkpoint_every)
        if validating or saving or self._due(plan.log_every):
            self._log()
        if validating:
            self._validate()
        if validating or saving:
            self._save("last")

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.plan.steps

    def _descend(self, grads: P, norm: torch.Tensor) -> None:
        if self.plan.clip is not None:
            grads = trees.scale(grads, (self.plan.clip / norm).clamp(max=1.0))
        for group, base in zip(self.optimizer.param_groups, self.base_lr, strict=True):
            group["lr"] = self.lr = base * self.plan.schedule(self.step, self.plan.steps)
        for name, parameter in self.params.items():
            parameter.grad = grads[name]
        descend(self.optimizer)

    def _log(self) -> None:
        if not self.window:
            return
        series = {name: values.double().cpu() for name, values in trees.stack(self.window).items()}
        series = ranks.average_logs(series, self.plan.share.weight)
        finite = torch.isfinite(series["loss"]) & torch.isfinite(series["gradient_norm"])
        if not finite.all():
            bad = int(finite.logical_not().nonzero()[0])
            raise Diverged(self._divergence(self.step - len(self.window) + bad + 1, float(series["loss"][bad])))
        row = {"step": self.step, "split": "train"} | {name: float(v.mean()) for name, v in series.items()}
        tasks, self.window = len(self.window) * self.plan.meta_batch, []
        self.observer.logged(row | {"lr": self.lr}, tasks)

    def _divergence(self, step: int, loss: float) -> str:
        last = self.run.checkpoint("last")
        what = "the meta-gradient is not finite" if math.isfinite(loss) else f"the loss is {loss}"
        return f"{what} at step {step} (learning rate {self.lr:g}); the last good checkpoint is {last}"

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
        if plan.keep_best and self.best.step == self.step:
            self._save("best")

    def _calibrated(self) -> Meta:
        if self.calibrated is None or self.calibrated[0] != self.step:
            images = self.plan.train.pool(self.plan.calibration_images)
            self.calibrated = self.step, self.plan.tester.calibrate(self.meta, images)
        return self.calibrated[1]

    def _save(self, name: str) -> None:
        if not ranks.first():
            return
        moved = self.optimizer.state if name == "last" else {}
        state = {p: moved[tensor] for p, tensor in self.params.items() if tensor in moved}
        optimizer = {p: {k: torch.as_tensor(v) for k, v in s.items() if v is not None} for p, s in state.items()}
        about = {**self.plan.about, "step": self.step, "best": self.best.as_dict()}
        checkpoints.save(self.run.checkpoint(name), Checkpoint(self._calibrated(), about, optimizer))

    def _resume(self, last: Checkpoint) -> None:
        checkpoints.fits(self.params, last.meta.params, self.run.checkpoint("last"))
        self.step, self.best = last.step, Best(**last.about["best"])
        with torch.no_grad():
            for name, parameter in self.params.items():
                parameter.copy_(last.meta.params[name])
        names = list(self.params)
        state = {i: last.optimizer[name] for i, name in enumerate(names) if name in last.optimizer}
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
