"""TensorBoard's event files, read as Katib's tfevent-metricscollector reads them (v0.19, tfevent_loader.py).

Every file below the collector's directory is read, of scalar summaries of both versions
(`simple_value`, and a tensor with one number). A metric `DIR/TAG` is a tag that starts with TAG, in
a file whose directory ends with DIR; a metric `TAG` is looked for in all of them. So the metric
`loss` finds the tag `loss_d` too, and `Loss/train`, as torch's SummaryWriter.add_scalar takes it,
names the tag `train` in the directory `Loss`.

TensorBoard's own reader does the work, without TensorFlow. Differences from Katib: times keep their
fractions of a second, a value whose time is no date comes before all others, a tensor of one or
more dimensions is ignored (its shape could claim any amount of memory), a damaged file counts up to
the damage, and files are read in the order of their names.
"""

from __future__ import annotations

import logging
import math
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from tuner.errors import UnsupportedError
from tuner.experiment.model import Strategy
from tuner.metrics.observations import UNDATED, ObservationLog
from tuner.metrics.parsing import number
from tuner.metrics.tail import NAME_LIMIT, POLL_SECONDS

FILE_LIMIT = 1000  # files of one trial that are read
_FIRST_SECOND, _LAST_SECOND = (
    datetime(year, 1, 1, tzinfo=UTC).timestamp() for year in (1970, 9999)
)


def ensure_available() -> None:
    """Raise UnsupportedError where TensorBoard is not installed."""
    if find_spec("tensorboard") is None:
        raise UnsupportedError(
            "collector kind TensorFlowEvent needs TensorBoard's reader, which is not installed: "
            "pip install 'gan-tuner[tensorboard]'"
        )


class EventFiles:
    """The observations of one directory of event files; see MetricsReader."""

    def __init__(
        self, path: Path, metrics: Sequence[str], keep_going: Callable[[], bool] = lambda: True
    ) -> None:
        self._path, self._keep_going = path, keep_going
        self._last_line: int | None = None
        self._finishing = False  # the complete reading has begun
        self._wanted = {metric: PurePosixPath(metric) for metric in metrics}
        self._reset()

    def _reset(self) -> None:
        self._observations, self._error = ObservationLog(last_line=self._last_line), ""
        self._loaders: dict[str, Any] = {}
        self._other: dict[str, None] = {}
        self._count = 0

    @property
    def path(self) -> Path:
        """The collector's directory."""
        return self._path

    @property
    def observations(self) -> ObservationLog:
        """What the files hold, as far as they were read; a line is the number of an observation."""
        return self._observations

    @property
    def error(self) -> str:
        """Why nothing more is read."""
        return self._error

    def poll(self, seconds: float = POLL_SECONDS) -> int:
        """Read what was added, for at most `seconds`."""
        before = self._count
        self._read(time.monotonic() + seconds)
        return self._count - before

    def read_all(self, seconds: float = math.inf) -> bool:
        """Read all files from their start, as `MetricsReader.read_all` describes."""
        if not self._finishing:
            self._reset()
        complete = self._read(time.monotonic() + seconds)
        self._finishing = not complete and self._keep_going()
        return complete

    def aggregate(
        self, strategies: Mapping[str, Strategy], last_line: int | None = None
    ) -> dict[str, float]:
        """One finite number per metric, as `ObservationLog.aggregate` describes."""
        if last_line is None or not self._observations.thinned():
            return self._observations.aggregate(strategies, last_line)
        start = EventFiles(self._path, tuple(self._wanted))
        start._last_line = last_line
        start.read_all()
        return start.observations.aggregate(strategies)

    def curve(self, metric: str) -> Sequence[float]:
        """The first finite values of one metric."""
        return self._observations.curve(metric)

    def other_names(self) -> list[str]:
        """Up to NAME_LIMIT tags that are no metric, with their directories."""
        return list(self._other)

    def expected(self, metric: str) -> str:
        """Return which tag in which directory the metric is."""
        wanted = PurePosixPath(metric)
        place = "" if len(wanted.parts) < 2 else f" of a directory {wanted.parent}"
        return f"no scalar {wanted.name} in the event files{place}"

    def _read(self, until: float) -> bool:
        """Read from where the last reading ended; returns False where time or `keep_going` stopped it."""
        for path in self._files():
            try:
                for event in self._loader(path).Load():
                    self._take(event, path)
                    if time.monotonic() >= until or not self._keep_going():
                        return False
            except (
                Exception
            ) as error:  # TensorBoard's reader raises anything for a file that is no event file
                logging.getLogger(__name__).debug("%s is not read to its end: %s", path, error)
        return True

    def _files(self) -> Iterator[str]:
        """Yield the regular files below the directory; sets `error` where there are too many."""
        count = 0
        for folder, folders, names in os.walk(self._path):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                try:
                    if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would block
                        continue
                except OSError:
                    continue
                count += 1
                if count > FILE_LIMIT:
                    self._error = (
                        f"which holds more than {FILE_LIMIT} files: write other files elsewhere"
                    )
                    return
                yield path

    def _loader(self, path: str) -> Any:
        if path not in self._loaders:
            from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

            self._loaders[path] = EventFileLoader(path)
        return self._loaders[path]

    def _take(self, event: Any, path: str) -> None:
        from tensorboard.util.tensor_util import make_ndarray

        folder, seconds = os.path.dirname(path), _seconds(event.wall_time)
        for value in event.summary.value:
            if value.HasField("simple_value"):
                text = str(value.simple_value)
            elif value.HasField("tensor") and not value.tensor.tensor_shape.dim:
                text = str(make_ndarray(value.tensor))
            else:
                continue
            names = [
                name
                for name, wanted in self._wanted.items()
                if _is_meant(wanted, value.tag, folder)
            ]
            for name in names:
                self._count += 1
                self._observations.column(name).extend((number(text),), (seconds,), (self._count,))
            if not names and len(self._other) < NAME_LIMIT and not math.isnan(number(text)):
                inside = os.path.relpath(folder, self._path)
                self._other[value.tag if inside == "." else f"{inside}/{value.tag}"] = None


def _seconds(wall_time: float) -> float:
    """Return a time that a date can express. A program may pass any number, such as milliseconds."""
    return wall_time if _FIRST_SECOND <= wall_time < _LAST_SECOND else UNDATED


def _is_meant(metric: PurePosixPath, tag: str, folder: str) -> bool:
    """Return whether a tag in a directory is the metric; tfevent_loader.py, _should_consider."""
    parent = "" if len(metric.parts) < 2 else str(metric.parent)
    return tag.startswith(metric.name) and folder.endswith(parent)
