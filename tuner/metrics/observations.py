"""All observations of one trial, in columns, and Katib's metric strategies: one number per metric.

A column needs 24 bytes for each value, and running aggregates cost the same for each value, however
many came before.
"""

from __future__ import annotations

import bisect
import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from tuner.experiment.model import Strategy
from tuner.result import Observation

UNDATED = -math.inf  # the time of a value without one: it comes before all others


@dataclass(slots=True)
class _Running:
    """What the strategies need to know about the values of one metric so far."""

    smallest: float = math.inf
    largest: float = -math.inf
    latest: float = math.nan
    latest_time: float = UNDATED

    def extend(self, values: Sequence[float], times: Sequence[float]) -> None:
        """Count more values, NaN included, with their times."""
        time = max(times)
        if time >= self.latest_time:
            self.latest_time = time
            self.latest = values[len(times) - 1 - times[::-1].index(time)]
        finite = (
            values
            if math.isfinite(sum(values))
            else [value for value in values if math.isfinite(value)]
        )
        if finite:
            smallest, largest = min(finite), max(finite)
            self.smallest, self.largest = min(self.smallest, smallest), max(self.largest, largest)

    def value(self, strategy: Strategy) -> float:
        if strategy is Strategy.LATEST:
            return self.latest
        return self.largest if strategy is Strategy.MAX else self.smallest


@dataclass(slots=True)
class Column:
    """The values of one metric in the order of the file: NaN for what is no number, times in seconds since 1970."""

    values: array[float] = field(default_factory=lambda: array("d"))
    times: array[float] = field(default_factory=lambda: array("d"))
    lines: array[int] = field(default_factory=lambda: array("Q"))
    running: _Running = field(default_factory=_Running)

    def extend(self, values: Sequence[float], times: Sequence[float], lines: Iterable[int]) -> None:
        """Append values with their times and line numbers."""
        self.values.extend(values)
        self.times.extend(times)
        self.lines.extend(lines)
        self.running.extend(values, times)


class ObservationLog:
    """What one trial reported: a column for each metric."""

    def __init__(self, observations: Iterable[Observation] = ()) -> None:
        self._columns: dict[str, Column] = {}
        for line, observation in enumerate(observations, 1):
            self.add(observation, line)

    def __len__(self) -> int:
        return sum(len(column.values) for column in self._columns.values())

    @property
    def metrics(self) -> list[str]:
        """Return the names of the metrics that were reported."""
        return [metric for metric, column in self._columns.items() if column.values]

    def column(self, metric: str) -> Column:
        """Return the column of a metric; an empty one where it was not reported."""
        return self._columns.setdefault(metric, Column())

    def add(self, observation: Observation, line: int) -> None:
        """Append one observation, which was read from line number `line`."""
        time = observation.time.timestamp() if observation.time else UNDATED
        self.column(observation.metric).extend((observation.value,), (time,), (line,))

    def curve(self, metric: str) -> Sequence[float]:
        """Return the finite values of a metric in the order of the file."""
        values = self.column(metric).values
        return (
            values
            if math.isfinite(sum(values))
            else [value for value in values if math.isfinite(value)]
        )

    def line_of(self, metric: str, report: int) -> int:
        """Return the line number of finite value number `report` of a metric, counted from 1."""
        column = self.column(metric)
        finite = (
            line
            for line, value in zip(column.lines, column.values, strict=True)
            if math.isfinite(value)
        )
        return next(islice(finite, report - 1, None))

    def aggregate(
        self, strategies: Mapping[str, Strategy], last_line: int | None = None
    ) -> dict[str, float]:
        """Return one finite number per metric; a metric without one is left out.

        `latest` is the value with the latest time. Values without a time come first, and among
        equal times the last one counts (Katib's mysql.go orders by time only). `min` and `max`
        ignore values that are not finite.

        Args:
            strategies: The strategy of each metric, `latest` for others.
            last_line: What was read after this line does not count.
        """
        found = {}
        for metric, column in self._columns.items():
            running = column.running
            if last_line is not None:
                running, count = _Running(), bisect.bisect_right(column.lines, last_line)
                if count:
                    running.extend(column.values[:count], column.times[:count])
            found[metric] = running.value(strategies.get(metric, Strategy.LATEST))
        return {metric: value for metric, value in found.items() if math.isfinite(value)}
