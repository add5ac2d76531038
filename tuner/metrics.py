"""What a trial printed, as observations: Katib's file-metricscollector.go, for text and JSON lines, and strategies.

Two things differ, on purpose. A value that is no finite number is kept as NaN, where Katib keeps an empty text that
can become the best trial; and a custom filter that could take exponential time is refused, since Python's matcher,
unlike Katib's RE2, backtracks.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from re import _constants, _parser  # type: ignore[attr-defined]  # the pattern's tree, which re has no public name for
from typing import Any

from tuner.errors import UnsupportedError
from tuner.manifest import Collector, FileFormat, Strategy
from tuner.result import Observation

DEFAULT_FILTER = r"([\w|-]+)\s*=\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)"  # metricscollector/v1beta1/common/const.go
LINE_LIMIT = 4096  # characters of a longer line that a filter sees at a time: bounds the cost of a quadratic filter
_BETWEEN = re.compile(r"(?<![=\s])\s+(?![\s=])")  # white space that no match of the default filter spans
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class JsonLineError(ValueError):
    """A line that is no JSON object, which ends Katib's collector; the message is one line."""


def compiled(filters: Sequence[str]) -> tuple[re.Pattern[str], ...]:
    """The filters of a collector, or the default one.

    Raises UnsupportedError for one that Python cannot compile, that lacks two groups, or that may take exponential
    time on a line.
    """
    return tuple(_compiled(one) for one in filters or (DEFAULT_FILTER,))


def _compiled(pattern: str) -> re.Pattern[str]:
    if "[[:" in pattern:
        raise UnsupportedError(
            f"metricsFormat {pattern!r} uses a POSIX class, which a local run cannot read: write \\w"
        )
    try:
        regex = re.compile(pattern, re.ASCII)
    except (re.error, OverflowError, RecursionError) as error:
        raise UnsupportedError(f"metricsFormat {pattern!r} must be a regular expression: {error}") from error
    if regex.groups < 2:
        raise UnsupportedError(f"metricsFormat {pattern!r} must have two groups, name and value, has {regex.groups}")
    if _nested_repeat(_parser.parse(pattern, re.ASCII), repeated=False):
        raise UnsupportedError(
            f"metricsFormat {pattern!r} repeats a repetition, which can take exponential time here: write it flat"
        )
    return regex


def _nested_repeat(tree: Iterable[Any], *, repeated: bool) -> bool:
    """True where an unbounded repetition, or a back-reference, stands inside another unbounded repetition."""
    for operator, argument in tree:
        inner = repeated
        if operator in (_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT):
            unbounded = argument[1] > 8
            if unbounded and repeated:
                return True
            inner = repeated or unbounded
        if operator is _constants.GROUPREF:
            return True
        if any(_nested_repeat(part, repeated=inner) for part in _parts(argument)):
            return True
    return False


def _parts(argument: Any) -> Iterator[Any]:
    if isinstance(argument, _parser.SubPattern):
        yield argument
    elif isinstance(argument, tuple | list):
        for item in argument:
            yield from _parts(item)


def parse_text(line: str, metrics: Sequence[str], filters: Sequence[re.Pattern[str]]) -> Iterator[Observation]:
    """The observations of one line; a leading RFC3339 time dates them."""
    if not any(metric in line for metric in metrics):
        return
    first, space, _ = line.partition(" ")
    time = _time(first) if space else None
    for regex in filters:
        for piece in _pieces(line, regex):
            for match in regex.finditer(piece):
                name = (match[1] or "").strip()
                if name in metrics:
                    yield Observation(name, number(match[2] or ""), time)


def _pieces(line: str, regex: re.Pattern[str]) -> Iterator[str]:
    """A long line cut into words for the default filter (a progress bar ends no line); its head for a custom one."""
    whole = len(line) <= LINE_LIMIT
    for piece in [line] if whole or regex.pattern != DEFAULT_FILTER else _BETWEEN.split(line):
        yield piece[:LINE_LIMIT]


def parse_json(line: str, metrics: Sequence[str]) -> Iterator[Observation]:
    """The observations of one JSON line. Values count only as text, as in Katib; `timestamp` is RFC3339 or epoch.

    Raises JsonLineError for a line that is no JSON object.
    """
    if not line:
        return
    try:
        shape = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise JsonLineError(f"format JSON needs one object a line, got {line[:60]!r}") from error
    if not isinstance(shape, dict):
        raise JsonLineError(f"format JSON needs one object a line, got {line[:60]!r}")
    stamp = shape.get("timestamp")
    time = _time(stamp) if isinstance(stamp, str) else _epoch(stamp)
    for metric in metrics:
        if isinstance(value := shape.get(metric), str):
            yield Observation(metric, number(value), time)


def number(value: str) -> float:
    """A decimal number, or NaN for anything else: empty, `nan`, `-`, an overflow."""
    value = value.strip()
    result = float(value) if _NUMBER.fullmatch(value) else math.nan
    return result if math.isfinite(result) else math.nan


def _time(value: str) -> datetime | None:
    if not _RFC3339.fullmatch(value):
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError:  # month 13
        return None


def _epoch(value: object) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, ValueError, OSError):
        return None


@dataclass
class MetricsTail:
    """Follows one growing file and keeps its observations in the order of the file; `lines` says of which line each is.

    `error` once a line is fatal.
    """

    path: Path
    metrics: tuple[str, ...]
    collector: Collector
    observations: list[Observation] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    error: str = ""
    _count: int = 0
    _offset: int = 0
    _rest: bytes = b""

    def __post_init__(self) -> None:
        self._filters = compiled(self.collector.filters)

    def poll(self, *, final: bool = False) -> int:
        """Read what is new; the number of new observations. With `final`, an unfinished last line counts too."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                fresh = file.read()
        except FileNotFoundError:
            return 0
        self._offset += len(fresh)
        *lines, self._rest = (self._rest + fresh).split(b"\n")
        if final and self._rest:
            lines, self._rest = [*lines, self._rest], b""
        before = len(self.observations)
        for line in lines:
            self._read(line.decode("utf-8", "replace"))
        return len(self.observations) - before

    def _read(self, line: str) -> None:
        self._count += 1
        if self.error:
            return
        try:
            if self.collector.format is FileFormat.JSON:
                self.observations.extend(parse_json(line, self.metrics))
            else:
                self.observations.extend(parse_text(line, self.metrics, self._filters))
        except JsonLineError as error:
            self.error = str(error)
        self.lines += [self._count] * (len(self.observations) - len(self.lines))


def aggregate(observations: Iterable[Observation], strategies: Mapping[str, Strategy]) -> dict[str, float]:
    """One finite number per metric. `latest` goes by time, undated ones first, and by order among equals (mysql.go);

    min and max pass over values that are no number. A metric whose value is no number is left out.
    """
    series: dict[str, list[Observation]] = {}
    for observation in observations:
        series.setdefault(observation.metric, []).append(observation)
    found: dict[str, float] = {}
    for metric, seen in series.items():
        finite = [o.value for o in seen if math.isfinite(o.value)]
        strategy = strategies.get(metric, Strategy.LATEST)
        if strategy is Strategy.LATEST:
            last = max(enumerate(seen), key=lambda pair: (_sortable(pair[1].time), pair[0]))[1].value
            finite = [last] if math.isfinite(last) else []
        if finite:
            found[metric] = max(finite) if strategy is Strategy.MAX else min(finite)
    return found


def _sortable(time: datetime | None) -> float:
    return time.timestamp() if time else -math.inf
