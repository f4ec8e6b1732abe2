"""A launcher that runs the jobs of a sweep on Ray: each gets the share of the machine, or cluster, that it asks for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from metavision.errors import first_line
from metavision.records import jobs
from metavision.records.jobs import Outcome
from metavision.sweeping.needs import needed


@dataclass
class RayOptions:
    """`hydra.launcher` of `hydra/launcher=ray`.

    Args:
        init: what `ray.init` takes, such as the `address` of a cluster.
        remote: what a job needs, such as `num_gpus: 1`; a half puts two on each. Ray shows a job those GPUs alone.
    """

    _target_: str = "hydra_plugins.hydra_metavision.RayLauncher"
    init: dict[str, Any] = field(
        default_factory=lambda: {
            "address": None,
            "num_cpus": None,
            "num_gpus": None,
            "include_dashboard": False,
            "logging_level": "warning",
        }
    )
    remote: dict[str, Any] = field(default_factory=lambda: {"num_cpus": 1, "num_gpus": 0, "max_retries": 0})


class RayJobs(Launcher):
    """Asks Ray for all jobs at once; it runs as many together as fit."""

    def __init__(self, init: Mapping[str, Any], remote: Mapping[str, Any]) -> None:
        self.init, self.remote = OmegaConf.to_container(init), OmegaConf.to_container(remote)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        needed("ray", "hydra/launcher=ray")
        self.given = (hydra_context, task_function, config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        import ray

        setup_globals()
        sweep = Path(self.given[2].hydra.sweep.dir)
        sweep.mkdir(parents=True, exist_ok=True)
        if not ray.is_initialized():  # a search comes here for every batch
            ray.init(**self.init)  # type: ignore[arg-type]
        job = ray.remote(**self.remote)(_run)  # type: ignore[arg-type]
        given = ray.put((*self.given, Singleton.get_state()))
        asked = [job.remote(given, list(words), initial_job_idx + k) for k, words in enumerate(job_overrides)]
        return [self._had(one, sweep, initial_job_idx + k, job_overrides[k]) for k, one in enumerate(asked)]

    def _had(self, asked: Any, sweep: Path, number: int, overrides: Sequence[str]) -> JobReturn:
        """What a job gave; of one whose worker died, which must not end the others, nothing."""
        import ray

        try:
            return ray.get(asked)
        except ray.exceptions.RayTaskError:  # a fault of the program, not of the machine
            raise
        except ray.exceptions.RayError as error:
            why = f"its worker died: {first_line(error)}"
            jobs.write(sweep, number, Outcome(list(overrides), None, 1, why))
            return JobReturn(status=JobStatus.COMPLETED)


def _run(given: tuple[HydraContext, TaskFunction, DictConfig, Any], overrides: list[str], number: int) -> JobReturn:
    """One job, in a worker."""
    context, task, config, state = given
    setup_globals()
    Singleton.set_state(state)
    composed = context.config_loader.load_sweep_config(config, overrides)
    with open_dict(composed):
        composed.hydra.job.id = f"{composed.hydra.job.name}_{number}"
        composed.hydra.job.num = number
    HydraConfig.instance().set_config(composed)
    return run_job(
        hydra_context=context,
        task_function=task,
        config=composed,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
