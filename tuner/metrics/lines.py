"""Turns the lines of a metrics file into observations: many at once where possible, one by one otherwise."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence

from tuner.experiment.model import Collector, FileFormat
from tuner.katib.filters import DEFAULT_FILTER, Filter, compiled
from tuner.metrics.observations import UNDATED, ObservationLog
from tuner.metrics.parsing import (
    JsonLineError,
    json_object,
    line_time,
    mentions,
    number,
    parse_json,
    time_of,
)
from tuner.metrics.scan import Scanner

LINE_LIMIT = 1 << 20  # bytes of a line that are kept in memory
FILTER_SECONDS = 10  # CPU time that custom filters may take for each started MiB of text
_START = 66  # bytes of a line, with the line end before it, that hold a time
_MATCHES = 16  # matches of a filter between two looks at the clock


class StopReading(Exception):
    """Nothing more is read: `keep_going` returned False, or the reader has an error."""


class LineReader:
    """Reads blocks of lines into `observations`.

    Attributes:
        observations: What the lines held so far.
        last_line: The last line that counts, None for all.
        error: Set once a line makes Katib's collector fail, or a custom filter takes too long.
            Reading stops then.
    """

    def __init__(
        self, metrics: Sequence[str], collector: Collector, keep_going: Callable[[], bool]
    ) -> None:
        self.metrics, self._format, self._keep_going = metrics, collector.format, keep_going
        self._filters = compiled(collector.filters)
        scanner = Scanner(metrics)
        default = self._format is FileFormat.TEXT and [one.pattern for one in self._filters] == [
            DEFAULT_FILTER
        ]
        self._scanner = scanner if default and scanner.usable else None
        self.last_line: int | None = None
        self.reset()

    def reset(self) -> None:
        """Forget what was read."""
        self.observations, self.error = ObservationLog(last_line=self.last_line), ""
        self._line = 0  # number of the current line
        self._time = UNDATED  # seconds since 1970, of the current line
        self._bytes, self._matches = 0, 0  # what the filters have read and found
        # CPU seconds before this block, and its start
        self._spent, self._since = 0.0, time.thread_time()

    @property
    def splits(self) -> bool:
        """Whether a line may be read in pieces, with the same observations."""
        return self._format is FileFormat.TEXT and all(one.splits for one in self._filters)

    @property
    def finished(self) -> bool:
        """Whether no further line counts."""
        return self.last_line is not None and self._line > self.last_line

    def check(self) -> None:
        """Raise StopReading where no more is to be read."""
        if self.error or not self._keep_going():
            raise StopReading

    def take(self, block: bytes) -> None:
        r"""Add the observations of a block.

        Raises StopReading where the block was not read to its end.

        Args:
            block: Complete lines, each with the `\n` before it and not the one after it. A block
                without a first `\n` starts with the next piece of a line of which earlier pieces
                have been read.
        """
        self.check()
        if self._scanner is not None and not self._scanner.ambiguous(block):
            self._scan(self._scanner, block)
            return
        self._since = time.thread_time()
        try:
            self._take_lines(block)
        finally:
            self._spent += time.thread_time() - self._since

    def _take_lines(self, block: bytes) -> None:
        piece, *lines = block.split(b"\n")
        if piece:
            self._take_line(piece, continued=True)
        for line in lines:
            self.check()
            if self._scanner is not None and not self._scanner.ambiguous(b"\n" + line):
                self._scan(self._scanner, b"\n" + line)
            else:
                self._line += 1
                self._take_line(line, continued=False)

    def _scan(self, scanner: Scanner, block: bytes) -> None:
        """Add what the default filter finds in many lines at once."""
        columns: dict[bytes, tuple[list[float], list[float], list[int]]]
        columns = {metric.encode(): ([], [], []) for metric in self.metrics}
        line, seconds, stamp = self._line, self._time, b""
        # pass over all of it but the start of the last line, which may continue
        if not mentions(block, self.metrics):
            start = max(block.rfind(b"\n"), 0)
            line += block.count(b"\n", 0, start)
            block = block[start : start + _START]
        for first, name, value in scanner.findall(block):
            if not name:
                line, seconds, stamp = line + 1, UNDATED, first
                continue
            if stamp:
                seconds, stamp = _seconds(stamp), b""
            values, times, lines = columns[name]
            try:
                values.append(float(value))
            except ValueError:  # empty, or a sign alone
                values.append(math.nan)
            times.append(seconds)
            lines.append(line)
        self._line, self._time = line, _seconds(stamp) if stamp else seconds
        for name, (values, times, lines) in columns.items():
            if values:
                exact = values
                if not math.isfinite(sum(values)):  # 1e999 is no number either
                    exact = [value if math.isfinite(value) else math.nan for value in values]
                self.observations.column(name.decode()).extend(exact, times, lines)

    def _take_line(self, line: bytes, *, continued: bool) -> None:
        """Add the observations of one line, or of a later piece of it."""
        if self._format is FileFormat.JSON:
            self._take_json(line, continued=continued)
            return
        if not continued:
            dated = line_time(line)
            self._time = dated.timestamp() if dated else UNDATED
        if mentions(line, self.metrics):
            for one in self._filters:
                if one.splits or not continued:
                    self._find(one, line)

    def _find(self, one: Filter, line: bytes) -> None:
        """Add what a filter finds, within the limit of CPU time: a search for all matches can be quadratic."""
        self._bytes += len(line)
        for name, value in one.find(line):
            self._matches += 1
            if name in self.metrics:
                self.observations.column(name).extend(
                    (number(value),), (self._time,), (self._line,)
                )
            if self._matches % _MATCHES == 0:  # a look at the clock takes as long as some matches
                self.check()
                spent = self._spent + time.thread_time() - self._since
                if not one.splits and spent > FILTER_SECONDS * (1 + (self._bytes >> 20)):
                    self.error = (
                        f"line {self._line}: metricsFormat {one.pattern!r} takes more than {FILTER_SECONDS} s of CPU "
                        "time for 1 MiB of text; print shorter lines, or avoid `.*` inside the value"
                    )
                    raise StopReading

    def _take_json(self, line: bytes, *, continued: bool) -> None:
        try:
            if continued or len(line) > LINE_LIMIT:
                raise JsonLineError(
                    f"longer than {LINE_LIMIT >> 20} MiB; write one short JSON object per line"
                )
            for observation in parse_json(line, self.metrics):
                self.observations.add(observation, self._line)
        except JsonLineError as error:
            self.error = f"line {self._line}: {error}"
            raise StopReading from error

    def pairs(self, line: bytes) -> Iterator[tuple[str, str]]:
        """Yield all names with text values of one line, whether they are metrics or not."""
        if self._format is FileFormat.JSON:
            try:
                pairs = json_object(line) if line else {}
            except JsonLineError:
                return
            yield from ((name, value) for name, value in pairs.items() if isinstance(value, str))
            return
        for one in self._filters:
            yield from one.find(line)


def _seconds(word: bytes) -> float:
    """Seconds since 1970 of an RFC3339 time, UNDATED for another word."""
    dated = time_of(word)
    return dated.timestamp() if dated else UNDATED
