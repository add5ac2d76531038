"""The search space: what one Katib parameter may be.

Katib writes every bound and every value as text. Here bounds are numbers and values are typed: a
double is a float, an int an int; discrete and categorical values stay the text of the manifest, as
Katib passes them to the trial.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

Value: TypeAlias = float | int | str


class Distribution(StrEnum):
    """Katib's four distributions (experiment_types.go, `Distribution`)."""

    UNIFORM = "uniform"
    LOG_UNIFORM = "logUniform"
    NORMAL = "normal"
    LOG_NORMAL = "logNormal"


@dataclass(frozen=True, slots=True)
class Double:
    """A float in [low, high]; with `step`, on the grid low, low + step, ... that does not pass high."""

    name: str
    low: float
    high: float
    step: float | None = None
    distribution: Distribution = Distribution.UNIFORM


@dataclass(frozen=True, slots=True)
class Int:
    """An int in [low, high]; with `step`, on the grid low, low + step, ... that does not pass high."""

    name: str
    low: int
    high: int
    step: int | None = None
    distribution: Distribution = Distribution.UNIFORM


@dataclass(frozen=True, slots=True)
class Categorical:
    """One of `choices`, unordered."""

    name: str
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Discrete:
    """One of `choices`, which are numbers in text form."""

    name: str
    choices: tuple[str, ...]


Parameter: TypeAlias = Double | Int | Categorical | Discrete


def text(value: Value) -> str:
    """A value as the trial's command sees it: `repr` for floats, so that reading it back gives the same number."""
    return value if isinstance(value, str) else repr(value)
