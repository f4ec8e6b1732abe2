"""What a search varies, read from the ordinary override grammar."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import (
    BaseDistribution,
    CategoricalChoiceType,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from metavision.errors import InputError


@dataclass(frozen=True)
class Space:
    """A search's words, sorted by what they are for.

    Args:
        fixed: the same in all trials.
        varied: what a trial draws, by key.
        seeds: of the runs of a trial, whose mean is its value; empty: the usual seed.
    """

    fixed: list[str] = field(default_factory=list)
    varied: dict[str, BaseDistribution] = field(default_factory=dict)
    seeds: list[str] = field(default_factory=list)

    def words(self, values: Mapping[str, CategoricalChoiceType]) -> list[list[str]]:
        """The overrides of a trial's runs."""
        words = [*self.fixed, *(f"{key}={value}" for key, value in values.items())]
        return [[*words, f"seed={seed}"] for seed in self.seeds] or [words]

    def corner(self) -> dict[str, CategoricalChoiceType]:
        """One point of it."""
        return {
            key: d.choices[0] if isinstance(d, CategoricalDistribution) else d.low  # type: ignore[attr-defined]
            for key, d in self.varied.items()
        }


def space(overrides: Iterable[Override]) -> Space:
    """The space that words describe; of equal keys the last one counts.

    Raises:
        InputError: nothing varies, or what varies makes no sense.
    """
    found = Space()
    for override in {o.get_key_element(): o for o in overrides}.values():
        key = override.get_key_element()
        if not override.is_sweep_override():
            found.fixed.append(str(override.input_line))
        elif key == "seed":  # the luckiest seed is no setting
            if not override.is_discrete_sweep():
                raise InputError("seed can't be searched for; seed=0,1,2 makes a trial the mean of three runs")
            found.seeds.extend(override.sweep_string_iterator())
        else:
            found.varied[key] = _distribution(key, override)
    if not found.varied:
        raise InputError("a search needs something to vary, such as optimizer.lr='tag(log, interval(1e-4, 1e-1))'")
    return found


def _distribution(key: str, override: Override) -> BaseDistribution:
    value = override.value()
    try:
        if isinstance(value, IntervalSweep):
            return _numbers(value.start, value.end, log="log" in value.tags)
        if isinstance(value, RangeSweep):
            points = list(value.range())
            log = "log" in value.tags
            return _numbers(points[0], points[-1], log=log, step=None if log else value.step)
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    except (ValueError, IndexError) as error:
        raise InputError(f"{key} can't be searched for: {error}") from error


def _numbers(low: float | None, high: float | None, *, log: bool, step: float | None = None) -> BaseDistribution:
    assert low is not None
    assert high is not None
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log, step=int(step or 1))
    return FloatDistribution(low, high, log=log, step=step)
