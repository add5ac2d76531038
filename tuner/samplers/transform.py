"""A Katib parameter as a sampler sees it, and back.

A sampler works on coordinates: a choice, an index, a number, or a quantile. Model-based samplers
know uniform and log-uniform numbers and choices. All other distributions (normal, logNormal, and a
step or an int with any distribution except uniform) are sampled in the quantile u in [0, 1] and
rounded to the grid, so every sampler honours them.

Three defects of Katib's services do not occur: every value is in [min, max] (hyperopt does not
truncate its normal distributions), the ends of a grid are as likely as its middle, and a grid is
computed in decimal (there is no
0.30000000000000004, and no logUniform step at 0).
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from statistics import NormalDist
from typing import Any, overload

from tuner.space import Categorical, Discrete, Distribution, Double, Int, Parameter, Value

LISTED_VALUES = 12  # of a parameter, that an error lists one by one
LONGEST_SHOWN = 60  # characters of a value, in an error
DIGITS = 6  # of a double without a step, in relation to its range
MOST_DECIMALS = 300  # that round() takes
LARGEST_GRID = 10**7  # points that a double with a step may have; above, it is continuous


class Coordinate(Enum):
    """What a sampler's coordinate on one dimension is."""

    CHOICE = "one of the values, unordered"
    INDEX = "the index of one of the values"
    NUMBER = "a number in [low, high]"
    LOG_NUMBER = "a number in [low, high], on a logarithmic scale"
    QUANTILE = "a quantile in [0, 1]"


@dataclass(frozen=True)
class Steps(Sequence[float]):
    """The numbers low, low + step, ... as floats. Each is computed when it is needed: there may be millions."""

    low: Decimal
    step: Decimal
    length: int

    def __len__(self) -> int:
        """Return how many numbers these are."""
        return self.length

    @overload
    def __getitem__(self, index: int) -> float: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[float, ...]: ...

    def __getitem__(self, index: int | slice) -> float | tuple[float, ...]:
        """Return the number, or the numbers, at a place."""
        places = range(self.length)[index]
        return (
            float(self.low + self.step * places)
            if isinstance(places, int)
            else tuple(self[p] for p in places)
        )

    def __contains__(self, value: object) -> bool:
        """Return whether a number is one of these."""
        if not isinstance(value, int | float) or not math.isfinite(value):
            return False
        place = round((Decimal(repr(float(value))) - self.low) / self.step)
        return 0 <= place < self.length and self[place] == value

    def index(self, value: float, start: int = 0, stop: int | None = None) -> int:
        """Return the place of a number. Raises ValueError if it is none of these."""
        if value not in self:
            raise ValueError(f"{value} is none of these numbers")
        return range(self.length).index(round((Decimal(repr(float(value))) - self.low) / self.step))


@dataclass(frozen=True, slots=True)
class Dimension:
    """One parameter. `values` are all its values, in order, or None if they are not finite."""

    parameter: Parameter
    values: Sequence[Value] | None
    coordinate: Coordinate

    @property
    def name(self) -> str:
        """Return the parameter's name."""
        return self.parameter.name

    def value(self, coordinate: Any) -> Value:
        """Return what the trial receives for a sampler's coordinate."""
        if self.coordinate is Coordinate.CHOICE:
            return str(coordinate)
        if self.values is not None and self.coordinate is Coordinate.INDEX:
            return self.values[int(coordinate)]
        if self.coordinate is Coordinate.QUANTILE:
            return self.at(float(coordinate))
        return self._rounded(float(coordinate))

    def at(self, u: float) -> Value:
        """Return the value at quantile `u` in [0, 1]."""
        if self.values is not None and self.coordinate is not Coordinate.QUANTILE:
            return self.values[min(int(u * len(self.values)), len(self.values) - 1)]
        return self._rounded(_quantile(self.parameter, u))

    def find(self, value: Value) -> Value:
        """Return a value as this dimension writes it. Raises ValueError, with the reason, if it is not in here."""
        if self.values is None:
            number = _number(self.name, value)
            low, high = self.parameter.low, self.parameter.high  # type: ignore[union-attr]
            if not low <= number <= high:
                raise ValueError(f"{_assigned(self.name, value)} is not in [{low:g}, {high:g}]")
            return number
        if isinstance(self.parameter, Categorical | Discrete):
            if str(value) in self.values:
                return str(value)
            equal = [each for each in self.values if same_number(each, value)]
        else:
            number = _number(self.name, value)
            if isinstance(self.parameter, Int) and number.is_integer():
                number = _whole(value, number)
            equal = [number] if number in self.values else []
        if len(equal) > 1:
            raise ValueError(
                f"{_assigned(self.name, value)} equals several values: write one of {_listed(equal)}"
            )
        if not equal:
            raise ValueError(
                f"{_assigned(self.name, value)} is not one of its values: {_listed(self.values)}"
            )
        return equal[0]

    def encode(self, value: Value) -> Any:
        """Return a sampler's coordinate for a value. Raises ValueError if the value is not in this dimension."""
        found = self.find(value)
        if self.coordinate is Coordinate.CHOICE:
            return found
        if self.values is not None and self.coordinate is Coordinate.INDEX:
            return self.values.index(found)
        number = float(found)
        return _rank(self.parameter, number) if self.coordinate is Coordinate.QUANTILE else number

    def _rounded(self, number: float) -> Value:
        low, high = self.parameter.low, self.parameter.high  # type: ignore[union-attr]
        if self.values is None:
            return min(max(_shortened(self.parameter, number), low), high)
        step = float(self.values[1]) - float(self.values[0]) if len(self.values) > 1 else 1.0
        return self.values[min(max(round((number - low) / step), 0), len(self.values) - 1)]


def dimension(parameter: Parameter) -> Dimension:
    """Return the dimension of one parameter."""
    if isinstance(parameter, Categorical):
        return Dimension(parameter, tuple(dict.fromkeys(parameter.choices)), Coordinate.CHOICE)
    if isinstance(parameter, Discrete):
        return Dimension(
            parameter, tuple(sorted(dict.fromkeys(parameter.choices), key=float)), Coordinate.INDEX
        )
    values = _grid(parameter)
    if _by_quantile(parameter):
        return Dimension(parameter, values, Coordinate.QUANTILE)
    if values is not None:
        return Dimension(parameter, values, Coordinate.INDEX)
    log = parameter.distribution is Distribution.LOG_UNIFORM
    return Dimension(parameter, None, Coordinate.LOG_NUMBER if log else Coordinate.NUMBER)


def size(dimensions: Sequence[Dimension]) -> int | None:
    """Return the number of points of a space, or None if it is infinite."""
    return (
        None
        if any(each.values is None for each in dimensions)
        else math.prod(len(each.values or ()) for each in dimensions)
    )


def random_point(dimensions: Sequence[Dimension], rng: random.Random) -> dict[str, Value]:
    """Return a point that is drawn from the distributions of the parameters."""
    return {each.name: each.at(rng.random()) for each in dimensions}


def point(dimensions: Sequence[Dimension], index: int) -> dict[str, Value]:
    """Return the point with this index in a finite space. The last dimension varies fastest."""
    values: dict[str, Value] = {}
    for one in reversed(dimensions):
        assert one.values is not None  # noqa: S101  # size() came first
        index, place = divmod(index, len(one.values))
        values[one.name] = one.values[place]
    return {one.name: values[one.name] for one in dimensions}


def index(dimensions: Sequence[Dimension], values: Mapping[str, Value]) -> int:
    """Return the index of a point of a finite space, the inverse of `point`."""
    found = 0
    for one in dimensions:
        assert one.values is not None  # noqa: S101  # size() came first
        found = found * len(one.values) + one.values.index(one.find(values[one.name]))
    return found


def _shortened(parameter: Parameter, number: float) -> float:
    """Return a number to a millionth of its range, on the parameter's scale.

    The last digits of a model's proposal differ between processors and builds of numerical
    libraries. Without them, the same search gives the same values on any machine, and they are
    easier to read.
    """
    low, high = float(parameter.low), float(parameter.high)  # type: ignore[union-attr]
    log = parameter.distribution in (Distribution.LOG_UNIFORM, Distribution.LOG_NORMAL)  # type: ignore[union-attr]
    span = abs(number) * min(math.log(high / low), 1.0) if log else high - low
    if span <= 0 or not math.isfinite(span):
        return number
    decimals = DIGITS - math.floor(math.log10(span))
    return round(number, decimals) if decimals <= MOST_DECIMALS else number


def same_number(one: Value, other: Value) -> bool:
    """Return whether two values, as text or not, are the same number."""
    try:
        return float(one) == float(other)
    except (ValueError, OverflowError):
        return False


def _number(name: str, value: Value) -> float:
    """Return a value as a float; infinity for an int that is larger than any."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if int(value) > 0 else -math.inf
    except ValueError:
        raise ValueError(f"{_assigned(name, value)} is not a number") from None


def _whole(value: Value, number: float) -> int:
    """Return a whole number exactly, also one above 2**53. `number` is the value as a float."""
    try:
        return int(number if isinstance(value, float) else value)
    except ValueError:  # a text such as 64.0
        return int(number)


def _assigned(name: str, value: Value) -> str:
    return f"{name}={clipped(str(value))}"


def clipped(text: str) -> str:
    """Return a text for an error: on one line, printable, and of at most LONGEST_SHOWN characters."""
    shown = text if text and text.isprintable() else ascii(text)
    return shown if len(shown) <= LONGEST_SHOWN else f"{shown[: LONGEST_SHOWN - 3]}..."


def _listed(values: Sequence[Value]) -> str:
    if len(values) <= LISTED_VALUES:
        return ", ".join(map(str, values))
    return f"{values[0]}, {values[1]}, ... {values[-1]}"


def _by_quantile(parameter: Parameter) -> bool:
    if not isinstance(parameter, Double | Int) or parameter.distribution is Distribution.UNIFORM:
        return False
    plain = isinstance(parameter, Double) and not parameter.step
    return not (plain and parameter.distribution is Distribution.LOG_UNIFORM)


def _grid(parameter: Double | Int) -> Sequence[Value] | None:
    """Return low, low + step, ... up to high, computed in decimal, or None for a double without a step."""
    if isinstance(parameter, Int):
        return range(parameter.low, parameter.high + 1, parameter.step or 1)
    if not parameter.step:
        return None
    low, step = Decimal(repr(parameter.low)), Decimal(repr(parameter.step))
    count = int((Decimal(repr(parameter.high)) - low) / step) + 1
    return Steps(low, step, count) if count <= LARGEST_GRID else None


def _reach(parameter: Double | Int) -> tuple[float, float]:
    """Return the interval that is rounded to the grid: half a step beyond both ends, which makes all cells equal."""
    grid = _grid(parameter)
    if grid is None:
        return float(parameter.low), float(parameter.high)
    half = (parameter.step or 1) / 2
    low, high = float(grid[0]) - half, float(grid[-1]) + half
    if parameter.distribution in (Distribution.LOG_UNIFORM, Distribution.LOG_NORMAL) and low <= 0:
        low = float(grid[0])
    return low, high


def _quantile(parameter: Parameter, u: float) -> float:
    """Return the number at quantile u. A normal distribution has its mean in the middle and is six sigma wide.

    Source: Katib's pkg/suggestion/v1beta1/hyperopt/base_service.py.
    """
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
    """Return the quantile of a number, the inverse of `_quantile`."""
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


def _bell(
    parameter: Double | Int, low: float, high: float, log: bool
) -> tuple[NormalDist, float, float]:
    ends = (float(parameter.low), float(parameter.high))
    first, last = map(math.log, ends) if log else ends
    bell = NormalDist((first + last) / 2, max((last - first) / 6, 1e-300))
    return bell, bell.cdf(low), bell.cdf(high)
