"""Reads a metrics file: followed while the trial runs, and once completely when it has finished."""

from __future__ import annotations

import errno
import math
import os
import re
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from tuner.experiment.model import Collector, Strategy
from tuner.metrics.lines import LINE_LIMIT, LineReader, StopReading
from tuner.metrics.observations import ObservationLog
from tuner.metrics.parsing import number

POLL_SECONDS = 0.2  # of one poll, unless the caller has less time
NAME_LIMIT = 8  # names of other metrics that a message lists
_NAME_BYTES = 1 << 16  # bytes of the file that are searched for them
_CHUNK = 1 << 14  # bytes of one read, which take some milliseconds
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
        self._collector = collector
        self._finishing = False  # the complete reading has begun
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

    def poll(self, seconds: float = POLL_SECONDS) -> int:
        """Read what was added, for at most `seconds`; the number of observations that were read.

        An unfinished last line waits. A file that was truncated, rewritten or replaced is read
        again from its start.
        """
        before = len(self.observations)
        try:
            self._read(time.monotonic() + seconds)
        except (StopReading, OSError):  # `read_all` says why a file cannot be read
            return 0
        return max(len(self.observations) - before, 0)

    def read_all(self, seconds: float = math.inf) -> bool:
        """Read the complete file once, its unfinished last line included, as Katib does when the trial has finished.

        A trial may have made something else than a readable file of it: that is an `error`.

        Returns:
            True at the end; False after `seconds`, and the next call continues; False where
            `keep_going` stopped it, and the next call starts anew.

        Raises:
            OSError: This machine cannot read the file.
        """
        if not self._finishing:
            self._reset()
        try:
            self._finishing = True
            _ensure_regular(self.path.stat(), self.path)
            if not self._read(time.monotonic() + seconds):
                return False
            self._finishing = False
            self._lines.take(self._rest)
        except FileNotFoundError:
            self._finishing = False
            return True
        except StopReading:
            self._finishing = False
            return bool(self.error)
        except OSError as error:
            self._finishing = False
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
        if last_line is None or not self.observations.thinned():
            return self.observations.aggregate(strategies, last_line)
        start = MetricsTail(self.path, self.metrics, self._collector)
        start._lines.last_line = last_line
        start.read_all()
        return start.observations.aggregate(strategies)

    def curve(self, metric: str) -> Sequence[float]:
        """The first finite values of one metric in the order of the file."""
        return self.observations.curve(metric)

    def _read(self, until: float) -> bool:
        """Read from where the last reading ended; returns False where time is up before the end of the file."""
        try:
            with open(self.path, "rb", opener=_open_regular) as file:
                if self._replaced(file):
                    self._reset()
                file.seek(self._offset)
                while chunk := file.read(_CHUNK):
                    self._lines.check()
                    self._offset += len(chunk)
                    self._mark = (self._mark + chunk)[-_MARK:]
                    self._feed(chunk)
                    if self._lines.finished:
                        break
                    if time.monotonic() >= until:
                        return False
        except FileNotFoundError:
            pass
        return True

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
        # read the start of a long line now, so that memory and the time of a turn stay bounded
        long = len(data) > LINE_LIMIT + 1
        if long or (self._lines.splits and len(data) > _CHUNK):
            end = len(data) - 1
            found = (match.start() for match in _CUT.finditer(data, end - _CUT_SEARCH))
            places = [place for place in found if place < end]  # what follows it is known
            if places or long:
                end = places[-1] if places else end
                self._lines.take(data[:end])
                data = data[end:]
        self._rest = data

    def expected(self, metric: str) -> str:
        """Return what would have been a report of `metric`."""
        wanted = (
            f"no match of metricsFormat for {metric}"
            if self._collector.filters
            else f"no {metric}=<number>"
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
