"""A Katib parameter as a sampler sees it, and back.

Optuna knows uniform and log-uniform numbers and choices. Everything else Katib knows (normal, logNormal, and a step or
an int with any distribution but uniform) is sampled in its quantile u in [0, 1] and snapped to the grid, so every
sampler honours it. Three of Katib's bugs are absent: no value is outside [min, max] (hyperopt's normal is not cut off),
the ends of a grid are as likely as its middle, and a grid is decimal (no 0.30000000000000004, no logUniform step at 0).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import NormalDist
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from tuner.space import Categorical, Discrete, Distribution, Double, Int, Parameter, Value

LARGEST_GRID = 10**7  # points that a stepped double may have; beyond, it counts as continuous


@dataclass(frozen=True, slots=True)
class Dimension:
    """One parameter. `values` is its whole set where that is finite, in order; `parameter` its numbers otherwise."""

    parameter: Parameter
    values: Sequence[Value] | None
    distribution: BaseDistribution

    @property
    def name(self) -> str:
        """The parameter's name."""
        return self.parameter.name

    def value(self, coordinate: Any) -> Value:
        """What the trial gets for a sampler's coordinate."""
        if isinstance(self.distribution, CategoricalDistribution):
            return str(coordinate)
        if self.values is not None and isinstance(self.distribution, IntDistribution):
            return self.values[int(coordinate)]
        if not _by_quantile(self.parameter):
            return float(coordinate)
        return self.at(float(coordinate))

    def at(self, u: float) -> Value:
        """The value at quantile `u` in [0, 1]."""
        if self.values is not None and not _by_quantile(self.parameter):
            return self.values[min(int(u * len(self.values)), len(self.values) - 1)]
        number = _quantile(self.parameter, u)
        return self._snapped(number)

    def encode(self, value: Value) -> Any:
        """A sampler's coordinate for a value; ValueError where the value is not in this dimension."""
        if self.values is not None:
            try:
                place = self.values.index(_typed(self.parameter, value))
            except ValueError as error:
                raise ValueError(f"{self.name}={value} is not one of its values") from error
            if isinstance(self.distribution, CategoricalDistribution):
                return self.values[place]
            if isinstance(self.distribution, IntDistribution):
                return place
        number = float(value)
        low, high = self.parameter.low, self.parameter.high  # type: ignore[union-attr]
        if not low <= number <= high:
            raise ValueError(f"{self.name}={value} is not in [{low}, {high}]")
        return _rank(self.parameter, number) if _by_quantile(self.parameter) else number

    def _snapped(self, number: float) -> Value:
        low, high = self.parameter.low, self.parameter.high  # type: ignore[union-attr]
        if self.values is None:
            return min(max(number, low), high)
        step = float(self.values[1]) - float(self.values[0]) if len(self.values) > 1 else 1.0
        return self.values[min(max(round((number - low) / step), 0), len(self.values) - 1)]


def dimension(parameter: Parameter) -> Dimension:
    """The dimension of one parameter."""
    if isinstance(parameter, Categorical):
        choices = tuple(dict.fromkeys(parameter.choices))
        return Dimension(parameter, choices, CategoricalDistribution(choices))
    if isinstance(parameter, Discrete):
        numbers = tuple(sorted(dict.fromkeys(parameter.choices), key=float))
        return Dimension(parameter, numbers, IntDistribution(0, len(numbers) - 1))
    values = _grid(parameter)
    if _by_quantile(parameter):
        return Dimension(parameter, values, FloatDistribution(0.0, 1.0))
    if values is not None:
        return Dimension(parameter, values, IntDistribution(0, len(values) - 1))
    log = parameter.distribution is Distribution.LOG_UNIFORM
    return Dimension(parameter, None, FloatDistribution(float(parameter.low), float(parameter.high), log=log))


def size(dimensions: Sequence[Dimension]) -> int | None:
    """How many points the space has, None where that is infinite."""
    return None if any(a.values is None for a in dimensions) else math.prod(len(a.values or ()) for a in dimensions)


def point(dimensions: Sequence[Dimension], index: int) -> dict[str, Value]:
    """The point of that index in a finite space, the last dimension turning fastest."""
    values: dict[str, Value] = {}
    for one in reversed(dimensions):
        assert one.values is not None  # noqa: S101  # size() came first
        index, place = divmod(index, len(one.values))
        values[one.name] = one.values[place]
    return {one.name: values[one.name] for one in dimensions}


def _by_quantile(parameter: Parameter) -> bool:
    if not isinstance(parameter, Double | Int) or parameter.distribution is Distribution.UNIFORM:
        return False
    plain = isinstance(parameter, Double) and not parameter.step
    return not (plain and parameter.distribution is Distribution.LOG_UNIFORM)


def _typed(parameter: Parameter, value: Value) -> Value:
    if isinstance(parameter, Int):
        return int(value)
    return float(value) if isinstance(parameter, Double) else str(value)


def _grid(parameter: Double | Int) -> Sequence[Value] | None:
    """low, low + step, ... not past high, computed in decimal; None for a double without step."""
    if isinstance(parameter, Int):
        return range(parameter.low, parameter.high + 1, parameter.step or 1)
    if not parameter.step:
        return None
    low, step = Decimal(repr(parameter.low)), Decimal(repr(parameter.step))
    count = int((Decimal(repr(parameter.high)) - low) / step) + 1
    return tuple(float(low + step * index) for index in range(count)) if count <= LARGEST_GRID else None


def _reach(parameter: Double | Int) -> tuple[float, float]:
    """The interval whose values snap to the grid: half a step beyond either end, so that both are as wide as others."""
    grid = _grid(parameter)
    if grid is None:
        return float(parameter.low), float(parameter.high)
    half = (parameter.step or 1) / 2
    low, high = float(grid[0]) - half, float(grid[-1]) + half
    if parameter.distribution in (Distribution.LOG_UNIFORM, Distribution.LOG_NORMAL) and low <= 0:
        low = float(grid[0])
    return low, high


def _quantile(parameter: Parameter, u: float) -> float:
    """Katib's distributions (hyperopt/base_service.py): a normal has its mean in the middle and six sigma in all."""
    assert isinstance(parameter, Double | Int)  # noqa: S101
    log = parameter.distribution in (Distribution.LOG_UNIFORM, Distribution.LOG_NORMAL)
    low, high = map(math.log, _reach(parameter)) if log else _reach(parameter)
    if parameter.distribution in (Distribution.UNIFORM, Distribution.LOG_UNIFORM) or low >= high:
        number = low + (high - low) * u
    else:
        bell, below, above = _bell(parameter, low, high, log)
        number = bell.inv_cdf(min(max(below + (above - below) * u, 1e-12), 1 - 1e-12))
    return math.exp(number) if log else number


def _rank(parameter: Parameter, number: float) -> float:
    """The inverse of `_quantile`."""
    assert isinstance(parameter, Double | Int)  # noqa: S101
    log = parameter.distribution in (Distribution.LOG_UNIFORM, Distribution.LOG_NORMAL)
    low, high = map(math.log, _reach(parameter)) if log else _reach(parameter)
    number = math.log(number) if log else number
    if low >= high:
        return 0.5
    if parameter.distribution in (Distribution.UNIFORM, Distribution.LOG_UNIFORM):
        return (number - low) / (high - low)
    bell, below, above = _bell(parameter, low, high, log)
    return min(max((bell.cdf(number) - below) / (above - below), 0.0), 1.0)


def _bell(parameter: Double | Int, low: float, high: float, log: bool) -> tuple[NormalDist, float, float]:
    ends = (float(parameter.low), float(parameter.high))
    first, last = map(math.log, ends) if log else ends
    bell = NormalDist((first + last) / 2, max((last - first) / 6, 1e-300))
    return bell, bell.cdf(low), bell.cdf(high)
