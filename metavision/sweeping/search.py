"""`hydra/sweeper=optuna`: a search that goes by validation alone and goes on where it stopped."""

import fcntl
import math
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from metavision import config as settings
from metavision.console import note, stdout
from metavision.errors import InputError, suggestion
from metavision.records.run import run_id
from metavision.records.statistics import figure
from metavision.seeds import seed
from metavision.sweeping.needs import needed

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.samplers import BaseSampler

    from metavision.sweeping.space import Space

SAMPLERS = ("tpe", "random")
MOST_BEGUN = 3  # times that a trial which a kill has left is begun again
SHOWN = 5  # of the best trials


@dataclass
class SearchOptions:
    """`hydra.sweeper` of `hydra/sweeper=optuna`.

    Args:
        n_trials: in all, those of earlier commands among them.
        n_jobs: trials at a time, for a launcher that runs jobs in parallel.
        study_name: null is made of what is searched, so that the same command goes on with it.
        storage: an address that optuna knows; null is a file of `<outputs>/searches`.
        sampler: tpe | random.
        seed: of the sampler.
        metric: what it goes by. There is `validation`, of the checkpoint that the run selects.
        params: what varies, beside the command line.
    """

    _target_: str = "hydra_plugins.hydra_metavision.OptunaSweeper"
    n_trials: int = 20
    n_jobs: int = 1
    study_name: str | None = None
    storage: str | None = None
    sampler: str = "tpe"
    seed: int = 0
    metric: str = "validation"
    params: dict[str, str] = field(default_factory=dict)


class Search(Sweeper):
    """Asks optuna for trials, has the launcher run them, and tells it what came of them."""

    def __init__(self, **options: Any) -> None:
        self.options = SearchOptions(**options)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        needed("optuna", "hydra/sweeper=optuna")
        options = self.options
        if options.metric != "validation":
            raise InputError(
                f"hydra.sweeper.metric is {options.metric}; a search goes by validation: the figure of a setting "
                "that was chosen on the test classes would not hold for new ones"
            )
        if options.sampler not in SAMPLERS:
            raise InputError(
                f"there is no hydra.sweeper.sampler={options.sampler}{suggestion(options.sampler, SAMPLERS)}"
            )
        if options.n_trials < 1 or options.n_jobs < 1:
            raise InputError("hydra.sweeper.n_trials and n_jobs must be at least 1")
        if config.hydra.job.name != "train":
            raise InputError("a search goes by validation, which only metavision train does")
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        from metavision.sweeping.space import space

        assert self.hydra_context
        assert self.config
        words = [*(f"{key}={value}" for key, value in self.options.params.items()), *arguments]
        loader = self.hydra_context.config_loader
        searched = space(OverridesParser.create(config_loader=loader).parse_overrides(words))
        example = loader.load_sweep_config(self.config, searched.words(searched.corner())[0])
        plain = settings.plain(OmegaConf.masked_copy(example, [str(key) for key in example if key != "hydra"]))
        settings.check(plain)
        problem = settings.locate(plain["problem"]["_target_"])
        name = self.options.study_name or _name(plain, example.hydra.runtime.choices, searched)
        place = (Path(plain["outputs"]) / "searches").absolute()
        sweep = Path(self.config.hydra.sweep.dir)
        sweep.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, sweep / "multirun.yaml")
        with _alone(place / f"{name}.lock", name):
            study = self._study(name, self.options.storage or f"sqlite:///{place}/{name}.db", higher=problem.higher)
            self._go_on(study, searched)
        _show(study, searched, problem.metric, self.options.n_trials)

    def _study(self, name: str, storage: str, *, higher: bool) -> "Study":
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            study = optuna.create_study(
                study_name=name,
                storage=storage,
                direction="maximize" if higher else "minimize",
                load_if_exists=True,
            )
        except Exception as error:  # whatever the data base's driver raises
            raise InputError(f"the study {name} can't be kept in {storage}: {error}") from error
        study.sampler = self._sampler(len(study.trials))
        note(f"search: {name}, {len(study.trials)} of {self.options.n_trials} trials are there, in {storage}")
        return study

    def _sampler(self, begun: int) -> "BaseSampler":
        """A sampler that does not repeat the draws of the command before it."""
        from optuna.samplers import RandomSampler, TPESampler

        number = seed("search", self.options.seed, begun) % 2**32
        # Trials that run at the same time keep away from each other.
        return (
            RandomSampler(number) if self.options.sampler == "random" else TPESampler(seed=number, constant_liar=True)
        )

    def _go_on(self, study: "Study", searched: "Space") -> None:
        number = 0
        while trials := self._next(study):
            batch = [searched.words(_drawn(trial, searched)) for trial in trials]
            words = [words for runs in batch for words in runs]
            returned = iter(self.launcher.launch(words, number))  # type: ignore[union-attr]
            number += len(words)
            for trial, runs in zip(trials, batch, strict=True):
                _tell(study, trial, [next(returned).return_value for _ in runs])

    def _next(self, study: "Study") -> list["Trial"]:
        """The next trials: first those that a kill has left behind, which keep their numbers and settings."""
        from optuna import Trial
        from optuna.trial import TrialState

        left: list[Trial] = []
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if len(left) == self.options.n_jobs:  # others wait, and have not been begun
                break
            begun = trial.user_attrs.get("begun", 0) + 1
            if begun > MOST_BEGUN:  # one that always ends by a kill, for its memory say, must not end the search too
                study.tell(trial.number, state=TrialState.FAIL)
                continue
            left.append(Trial(study, trial._trial_id))  # noqa: SLF001 - no other way
            left[-1].set_user_attr("begun", begun)
        new = min(self.options.n_jobs - len(left), self.options.n_trials - len(study.trials))
        return [*left, *(study.ask() for _ in range(new))]


def _name(plain: dict[str, Any], choices: DictConfig, searched: "Space") -> str:
    """`<algo>-<data>-<id>` of what is searched."""
    who = "-".join("several" if key in searched.varied else str(choices[key]) for key in ("algo", "data"))
    varied = {key: repr(distribution) for key, distribution in searched.varied.items()}
    seeds = searched.seeds or [plain["seed"]]
    return f"{who}-{run_id({'base': settings.identity(plain), 'varied': varied, 'seeds': seeds})}"


@contextmanager
def _alone(lock: Path, name: str) -> Iterator[None]:
    """Holds a search for this process, which could not tell its own trials from those that a kill has left."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"another process is at the search {name}; hydra.sweeper.n_jobs runs trials at once"
            ) from error
        yield


def _drawn(trial: "Trial", searched: "Space") -> dict[str, Any]:
    """A trial's settings: those that it has already, or new ones."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    values: dict[str, Any] = {}
    for key, d in searched.varied.items():
        match d:
            case FloatDistribution():
                values[key] = trial.suggest_float(key, d.low, d.high, log=d.log, step=d.step)
            case IntDistribution():
                values[key] = trial.suggest_int(key, d.low, d.high, log=d.log, step=d.step)
            case CategoricalDistribution():
                values[key] = trial.suggest_categorical(key, d.choices)
    return values


def _tell(study: "Study", trial: "Trial", values: Sequence[float | None]) -> None:
    from optuna.trial import TrialState

    known = [value for value in values if value is not None and math.isfinite(value)]
    if len(known) < len(values):
        study.tell(trial, state=TrialState.FAIL)
        note(f"trial {trial.number}: failed")
        return
    study.tell(trial, sum(known) / len(known))


def _show(study: "Study", searched: "Space", metric: str, n_trials: int) -> None:
    """Prints the best trials, and the command that runs the best one."""
    from optuna.study import StudyDirection
    from optuna.trial import TrialState

    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sign = -1 if study.direction == StudyDirection.MAXIMIZE else 1
    best = sorted(done, key=lambda trial: sign * (trial.value or 0.0))[:SHOWN]
    counts = f"{len(done)} of {n_trials} trials, {len(study.trials) - len(done)} failed"
    table = Table(title=f"search {study.study_name}: {counts}", title_justify="left")
    table.add_column("trial", justify="right")
    table.add_column(f"validation {metric}", justify="right", no_wrap=True)
    for key in searched.varied:
        table.add_column(key, justify="right", no_wrap=True)
    for trial in best:
        values = (f"{value:.4g}" if isinstance(value, float) else str(value) for value in trial.params.values())
        table.add_row(str(trial.number), figure(trial.value or 0.0, metric), *values)
    stdout.print(table)
    if best:
        words = searched.words({key: best[0].params[key] for key in searched.varied})[0]
        many = ["-m"] if len(searched.seeds) > 1 else []
        if many:
            words = [*words[:-1], f"seed={','.join(searched.seeds)}"]
        stdout.print(f"best: {shlex.join(['metavision', 'train', *many, *words])}", soft_wrap=True, markup=False)
