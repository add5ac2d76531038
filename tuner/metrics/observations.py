"""All observations of one trial, in columns, and Katib's metric strategies: one number per metric.

The memory is bounded, however much a trial prints: a column keeps the aggregates of all values, the
first ones, and evenly spaced ones.
"""

from __future__ import annotations

import bisect
import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

from tuner.experiment.model import Strategy
from tuner.result import Observation

KEPT = 10_000  # values of a metric that are kept, and first values for early stopping
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


# The line, the time and the value of one observation.
Point = tuple[int, float, float]


class Column:
    """The values of one metric in the order of the file: NaN for what is no number, times in seconds since 1970.

    Attributes:
        count: How many values were reported.
        running: What the strategies need to know about all of them.
        values: Those that are kept, with `times` and `lines`: all of them, or from KEPT on every
            second, every fourth ... in addition to `landmarks`.
        first: The first KEPT finite values, which early stopping looks at, with `first_lines`.
    """

    __slots__ = (
        "_highest", "_last", "_lowest", "_stride", "_until", "count", "first", "first_lines",
        "lines", "running", "times", "values",
    )  # fmt: skip

    def __init__(self, last_line: int | None = None) -> None:
        """Make an empty column, which ignores what is read after `last_line`."""
        self.values, self.times, self.lines = array("d"), array("d"), array("Q")
        self.first, self.first_lines = array("d"), array("Q")
        self.running, self.count = _Running(), 0
        self._stride, self._until = 1, last_line
        self._lowest: Point | None = None
        self._highest: Point | None = None
        self._last: Point | None = None

    def extend(self, values: Sequence[float], times: Sequence[float], lines: Sequence[int]) -> None:
        """Append values with their times and line numbers."""
        if self._until is not None:
            size = bisect.bisect_right(lines, self._until)
            values, times, lines = values[:size], times[:size], lines[:size]
        if not values:
            return
        before = self.running.smallest, self.running.largest
        self.running.extend(values, times)
        if self.running.smallest != before[0]:
            index = values.index(self.running.smallest)
            self._lowest = lines[index], times[index], values[index]
        if self.running.largest != before[1]:
            index = values.index(self.running.largest)
            self._highest = lines[index], times[index], values[index]
        self._last = lines[-1], times[-1], values[-1]
        if len(self.first) < KEPT:
            self._keep_first(values, lines)
        start = -self.count % self._stride
        self.values.extend(values[start :: self._stride])
        self.times.extend(times[start :: self._stride])
        self.lines.extend(lines[start :: self._stride])
        self.count += len(values)
        while len(self.values) > KEPT:
            self.values, self.times, self.lines = self.values[::2], self.times[::2], self.lines[::2]
            self._stride *= 2

    def _keep_first(self, values: Sequence[float], lines: Sequence[int]) -> None:
        room = KEPT - len(self.first)
        finite = [
            (value, line) for value, line in zip(values, lines, strict=True) if math.isfinite(value)
        ][:room]
        self.first.extend(value for value, _ in finite)
        self.first_lines.extend(line for _, line in finite)

    @property
    def thinned(self) -> bool:
        """Whether values were dropped."""
        return self._stride > 1

    def points(self, last_line: int | None = None) -> list[Point]:
        """Return the finite values that are kept, the lowest, the highest and the last one included.

        Those that were read after `last_line` are left out.
        """
        found = list(zip(self.lines, self.times, self.values, strict=True))
        if self.thinned:
            known = set(found)
            for point in (self._lowest, self._highest, self._last):
                if point is not None and point not in known:
                    known.add(point)
                    bisect.insort(found, point, key=itemgetter(0))
        return [
            point
            for point in found
            if math.isfinite(point[2]) and (last_line is None or point[0] <= last_line)
        ]


class ObservationLog:
    """What one trial reported: a column for each metric."""

    def __init__(
        self, observations: Iterable[Observation] = (), *, last_line: int | None = None
    ) -> None:
        """Hold `observations`, and ignore what is read after `last_line`."""
        self._columns: dict[str, Column] = {}
        self.last_line = last_line
        for line, observation in enumerate(observations, 1):
            self.add(observation, line)

    def __len__(self) -> int:
        return sum(column.count for column in self._columns.values())

    @property
    def metrics(self) -> list[str]:
        """Return the names of the metrics that were reported."""
        return [metric for metric, column in self._columns.items() if column.count]

    def column(self, metric: str) -> Column:
        """Return the column of a metric; an empty one where it was not reported."""
        column = self._columns.get(metric)
        if column is None:
            column = self._columns[metric] = Column(self.last_line)
        return column

    def thinned(self) -> dict[str, int]:
        """Return how many values were reported of each metric of which not all are kept."""
        return {metric: column.count for metric, column in self._columns.items() if column.thinned}

    def add(self, observation: Observation, line: int) -> None:
        """Append one observation, which was read from line number `line`."""
        time = observation.time.timestamp() if observation.time else UNDATED
        self.column(observation.metric).extend((observation.value,), (time,), (line,))

    def curve(self, metric: str) -> Sequence[float]:
        """Return the first KEPT finite values of a metric in the order of the file."""
        return self.column(metric).first

    def line_of(self, metric: str, report: int) -> int:
        """Return the line number of finite value number `report` of a metric, counted from 1."""
        return self.column(metric).first_lines[report - 1]

    def aggregate(
        self, strategies: Mapping[str, Strategy], last_line: int | None = None
    ) -> dict[str, float]:
        """Return one finite number per metric; a metric without one is left out.

        `latest` is the value with the latest time. Values without a time come first, and among
        equal times the last one counts (Katib's mysql.go orders by time only). `min` and `max`
        ignore values that are not finite.

        Args:
            strategies: The strategy of each metric, `latest` for others.
            last_line: What was read after this line does not count. Values up to it must not have
                been dropped (`thinned`).
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
