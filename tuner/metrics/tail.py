"""Reads a metrics file: followed while the trial runs, and once completely when it has finished."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from tuner.filters import compiled
from tuner.manifest import Collector, FileFormat, Strategy
from tuner.metrics.parsing import JsonLineError, json_object, line_time, number, observations_in, parse_json
from tuner.metrics.strategies import Aggregates
from tuner.result import Observation

POLL_LIMIT = 4 << 20  # bytes that one poll reads at most, so that the client answers a signal in between
LINE_LIMIT = 1 << 20  # bytes of a line that are kept in memory
NAME_LIMIT = 8  # names of other metrics that a message lists
_CHUNK = 1 << 18  # bytes of one read
_MARK = 256  # bytes before the offset, which show whether the file was rewritten
_CUT = re.compile(rb"[^\w|+\-.=\s]|(?<![=\s])\s(?![=\s])")  # bytes that are in no match of the default filter
_CUT_SEARCH = 4096  # bytes at the end of a long piece that are searched for a place to cut it


@dataclass
class MetricsTail:
    """The observations of one metrics file in the order of the file; `lines` has the line number of each.

    `error` is set once a line makes Katib's collector fail.
    """

    path: Path
    metrics: tuple[str, ...]
    collector: Collector
    observations: list[Observation] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    error: str = ""

    def __post_init__(self) -> None:
        self._filters = compiled(self.collector.filters)
        self._names = [metric.encode() for metric in self.metrics]
        self._identity: tuple[int, int] | None = None
        self._reset()

    def _reset(self) -> None:
        self.observations, self.lines, self.error = [], [], ""
        self._aggregates = Aggregates()
        self._finite: dict[str, list[float]] = {}
        self._line = 1
        self._offset = 0
        self._mark = b""
        self._rest = b""
        self._continued = False  # an earlier piece of the current line was read already
        self._time: datetime | None = None

    def poll(self) -> int:
        """Read what was added, at most POLL_LIMIT bytes; the number of observations that were read.

        An unfinished last line waits. A file that was truncated, rewritten or replaced is read again from its start.
        """
        return self._read(POLL_LIMIT)

    def read_all(self) -> None:
        """Read the complete file once, its unfinished last line included, as Katib does when the trial has finished."""
        self._reset()
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return
        while self._offset < size:
            before = self._offset
            self._read(POLL_LIMIT)
            if self._offset == before:
                break
        if self._rest:
            self._take(self._rest)
            self._rest = b""

    def aggregate(self, strategies: Mapping[str, Strategy]) -> dict[str, float]:
        """One finite number per metric, from running aggregates."""
        return self._aggregates.values(strategies)

    def curve(self, metric: str) -> Sequence[float]:
        """The finite values of one metric in the order of the file."""
        return self._finite.get(metric, ())

    def _read(self, limit: int) -> int:
        try:
            with self.path.open("rb") as file:
                if self._replaced(file):
                    self._reset()
                before = len(self.observations)
                file.seek(self._offset)
                while limit > 0 and (chunk := file.read(min(_CHUNK, limit))):
                    limit -= len(chunk)
                    self._offset += len(chunk)
                    self._mark = (self._mark + chunk)[-_MARK:]
                    self._feed(chunk)
        except FileNotFoundError:
            return 0
        return len(self.observations) - before

    def _replaced(self, file: BinaryIO) -> bool:
        """Whether the file is not the one that was read so far, or no longer holds what was read."""
        status = os.fstat(file.fileno())
        earlier, self._identity = self._identity, (status.st_dev, status.st_ino)
        if earlier not in (None, self._identity) or status.st_size < self._offset:
            return True
        file.seek(self._offset - len(self._mark))
        return file.read(len(self._mark)) != self._mark

    def _feed(self, chunk: bytes) -> None:
        first, *others = chunk.split(b"\n")
        self._rest += first
        for other in others:
            self._take(self._rest)
            self._line, self._continued = self._line + 1, False
            self._rest = other
        if len(self._rest) > LINE_LIMIT:
            self._shorten()

    def _shorten(self) -> None:
        """Read the start of a long line now, so that memory stays bounded."""
        end = len(self._rest)
        places = [match.start() for match in _CUT.finditer(self._rest, end - _CUT_SEARCH, end - 1)]
        at = places[-1] if places else end
        self._take(self._rest[:at])
        self._rest, self._continued = self._rest[at:], True

    def _take(self, piece: bytes) -> None:
        """Add the observations of a line, or of a piece of a long one."""
        if self.error:
            return
        found = self._json(piece) if self.collector.format is FileFormat.JSON else self._text(piece)
        for observation in found:
            self.observations.append(observation)
            self.lines.append(self._line)
            self._aggregates.add(observation)
            if math.isfinite(observation.value):
                self._finite.setdefault(observation.metric, []).append(observation.value)

    def _json(self, line: bytes) -> list[Observation]:
        if self._continued or len(line) > LINE_LIMIT:
            self.error = f"line {self._line}: longer than {LINE_LIMIT >> 20} MiB; write one short JSON object per line"
            return []
        try:
            return list(parse_json(line, self.metrics))
        except JsonLineError as error:
            self.error = f"line {self._line}: {error}"
            return []

    def _text(self, piece: bytes) -> Iterator[Observation]:
        if not any(name in piece for name in self._names):
            return
        if not self._continued:
            self._time = line_time(piece)
        filters = [one for one in self._filters if one.splits or not self._continued]
        yield from observations_in(piece, self.metrics, filters, self._time)

    def other_names(self) -> list[str]:
        """Up to NAME_LIMIT names of other metrics with a value in the first POLL_LIMIT bytes of the file."""
        try:
            with self.path.open("rb") as file:
                start = file.read(POLL_LIMIT)
        except FileNotFoundError:
            return []
        names: dict[str, None] = {}
        for line in start.split(b"\n"):
            for name, value in self._pairs(line[:LINE_LIMIT]):
                if name and name not in self.metrics and not math.isnan(number(value)):
                    names[name] = None
                if len(names) == NAME_LIMIT:
                    return list(names)
        return list(names)

    def _pairs(self, line: bytes) -> Iterator[tuple[str, str]]:
        if self.collector.format is FileFormat.JSON:
            try:
                pairs = json_object(line) if line else {}
            except JsonLineError:
                return
            yield from ((name, value) for name, value in pairs.items() if isinstance(value, str))
            return
        for one in self._filters:
            yield from one.find(line)
