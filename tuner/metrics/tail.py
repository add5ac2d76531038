"""Reads a metrics file: followed while the trial runs, and once completely when it has finished."""

from __future__ import annotations

import errno
import math
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from tuner.experiment.model import Collector, Strategy
from tuner.metrics.lines import LINE_LIMIT, LineReader, StopReading
from tuner.metrics.observations import ObservationLog
from tuner.metrics.parsing import number

POLL_LIMIT = 4 << 20  # bytes that one poll reads at most
NAME_LIMIT = 8  # names of other metrics that a message lists
_NAME_BYTES = 1 << 16  # bytes of the file that are searched for them
_CHUNK = 1 << 18  # bytes of one read
_MARK = 256  # bytes before the offset, which show whether the file was rewritten
# bytes that are in no match of the default filter
_CUT = re.compile(rb"[^\w|+\-.=\s]|(?<![=\s])\s(?![=\s])")
_CUT_SEARCH = 4096  # bytes at the end of a long piece that are searched for a place to cut it
# What a trial can do to its own file, in contrast to a disk that fails.
_NO_FILE = (errno.EACCES, errno.EISDIR, errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EINVAL)


class MetricsTail:
    """The observations of one metrics file.

    `keep_going` is asked between pieces of work of some milliseconds; reading stops where it
    returns False.
    """

    def __init__(
        self,
        path: Path,
        metrics: tuple[str, ...],
        collector: Collector,
        keep_going: Callable[[], bool] = lambda: True,
    ) -> None:
        self.path, self.metrics = path, metrics
        self._lines = LineReader(metrics, collector, keep_going)
        self._filtered = bool(collector.filters)  # by filters of the manifest
        self._identity: tuple[int, int] | None = None
        self._reset()

    def _reset(self) -> None:
        self._lines.reset()
        self._offset = 0
        self._mark = b""
        self._rest = b"\n"  # each line is read with the end of the line before it

    @property
    def observations(self) -> ObservationLog:
        """What the file holds, as far as it was read."""
        return self._lines.observations

    @property
    def error(self) -> str:
        """Why Katib's collector fails, or a filter takes too long; nothing more is read then."""
        return self._lines.error

    def poll(self) -> int:
        """Read what was added, at most POLL_LIMIT bytes; the number of observations that were read.

        An unfinished last line waits. A file that was truncated, rewritten or replaced is read
        again from its start.
        """
        try:
            return self._read(POLL_LIMIT)
        except (StopReading, OSError):  # `read_all` says why a file cannot be read
            return 0

    def read_all(self) -> bool:
        """Read the complete file once, its unfinished last line included, as Katib does when the trial has finished.

        A trial may have made something else than a readable file of it: that is an `error`.

        Returns:
            False where `keep_going` stopped it.

        Raises:
            OSError: This machine cannot read the file.
        """
        self._reset()
        try:
            status, before = self.path.stat(), -1
            _ensure_regular(status, self.path)
            while before < self._offset < status.st_size:
                before = self._offset
                self._read(POLL_LIMIT)
            self._lines.take(self._rest)
        except FileNotFoundError:
            return True
        except StopReading:
            return bool(self.error)
        except OSError as error:
            if error.errno not in _NO_FILE:
                raise
            self._lines.error = f"which cannot be read: {error.strerror}"
            return True
        self._rest = b""
        return True

    def aggregate(
        self, strategies: Mapping[str, Strategy], last_line: int | None = None
    ) -> dict[str, float]:
        """One finite number per metric, as `ObservationLog.aggregate` describes."""
        return self.observations.aggregate(strategies, last_line)

    def curve(self, metric: str) -> Sequence[float]:
        """The finite values of one metric in the order of the file."""
        return self.observations.curve(metric)

    def _read(self, limit: int) -> int:
        try:
            with open(self.path, "rb", opener=_open_regular) as file:
                if self._replaced(file):
                    self._reset()
                before = len(self.observations)
                file.seek(self._offset)
                while limit > 0 and (chunk := file.read(min(_CHUNK, limit))):
                    self._lines.check()
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
        data = self._rest + chunk
        if (end := data.rfind(b"\n")) > 0:
            self._lines.take(data[:end])
            data = data[end:]
        # read the start of a long line now, so that memory stays bounded
        if len(data) > LINE_LIMIT + 1:
            end = len(data) - 1
            places = [match.start() for match in _CUT.finditer(data, end - _CUT_SEARCH, end)]
            end = places[-1] if places else end
            self._lines.take(data[:end])
            data = data[end:]
        self._rest = data

    def expected(self, metric: str) -> str:
        """Return what would have been a report of `metric`."""
        wanted = (
            f"no match of metricsFormat for {metric}" if self._filtered else f"no {metric}=<number>"
        )
        return f"{wanted} in {self.path.name}"

    def other_names(self) -> list[str]:
        """Up to NAME_LIMIT names of other metrics with a value near the start of the file."""
        try:
            with self.path.open("rb") as file:
                start = file.read(_NAME_BYTES)
        except FileNotFoundError:
            return []
        names: dict[str, None] = {}
        for line in start.split(b"\n"):
            for name, value in self._lines.pairs(line):
                if name and name not in self.metrics and not math.isnan(number(value)):
                    names[name] = None
                if len(names) == NAME_LIMIT:
                    return list(names)
        return list(names)


def _open_regular(path: str, flags: int) -> int:
    """Open a regular file: a pipe would block, and a device may never end."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    try:
        _ensure_regular(os.fstat(descriptor), path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _ensure_regular(status: os.stat_result, path: str | Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
