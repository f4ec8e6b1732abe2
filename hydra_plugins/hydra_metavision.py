"""What metavision adds to Hydra, which takes plugins from this package alone."""

from hydra.core.config_store import ConfigStore

from metavision.sweeping.ray import RayJobs, RayOptions
from metavision.sweeping.search import Search, SearchOptions


class RayLauncher(RayJobs):
    """`hydra/launcher=ray`."""


class OptunaSweeper(Search):
    """`hydra/sweeper=optuna`."""


ConfigStore.instance().store(group="hydra/launcher", name="ray", node=RayOptions, provider="metavision")
ConfigStore.instance().store(group="hydra/sweeper", name="optuna", node=SearchOptions, provider="metavision")
