"""Learning curves: what the trials of a study reported, value by value, in `curves.jsonl` of the study's directory.

One line for each finished trial: {"trial": NAME, "metrics": {METRIC: [[TIME, VALUE], ...]}}. TIME
is RFC 3339 text, or null where the trial printed none. Values are finite and in the order of their
reports; of a metric with more than MAX_VALUES values, evenly chosen ones are kept, the first, the
lowest, the highest and the last included, and "reported": {METRIC: COUNT} says how many there were.

Lines are appended only. The last line of a trial counts, since a trial can run again. A line that a
killed process left unfinished is ignored.

`running-curves.jsonl` has lines of the same form: what trials on a cluster had reported when they
were looked at last. It is replaced as a whole, and a trial in `curves.jsonl` takes precedence.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tuner.errors import StudyError
from tuner.metrics import UNDATED, ObservationLog
from tuner.result import Observation
from tuner.store import files

FILE, RUNNING = "curves.jsonl", "running-curves.jsonl"
MAX_VALUES = 1000  # per trial and metric: more than a plot can show

Curves = Mapping[str, tuple[Observation, ...]]  # by the name of a metric


class Writer:
    """Appends to the curves of one study. The file stays open, so its directory may be renamed.

    Raises StudyError if the file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        try:
            self._file = self._path.open("a+b")
            if self._file.tell() and not self._ends_a_line():
                self._file.write(b"\n")
        except OSError as error:
            raise self._failed(error) from error

    def _ends_a_line(self) -> bool:
        self._file.seek(-1, os.SEEK_END)
        return self._file.read(1) == b"\n"

    def add(self, trial: str, log: ObservationLog, last_line: int | None = None) -> bool:
        """Add a trial's curves, up to line `last_line` of its file; returns whether it has any."""
        line = _line(trial, log, last_line)
        if line:
            try:
                self._file.write(line)
                self._file.flush()
            except OSError as error:
                raise self._failed(error) from error
        return bool(line)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._file.close()
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> StudyError:
        return StudyError(f"{self._path} cannot be written: {error.strerror}")


def replace_running(folder: Path, logs: Mapping[str, ObservationLog]) -> None:
    """Store what running trials have reported so far. Raises StudyError if the file cannot be written."""
    path = folder / RUNNING
    try:
        files.replace(path, b"".join(_line(trial, log, None) for trial, log in logs.items()))
    except OSError as error:
        raise StudyError(f"{path} cannot be written: {error.strerror}") from error


def read(
    folder: Path, metrics: Collection[str] | None = None, *, running: bool = False
) -> dict[str, Curves]:
    """Return the stored curves of a study by the names of its trials, of some metrics or of all.

    Those of finished trials, and with `running` also those of trials that ran on a cluster when
    they were looked at.

    Raises StudyError if a file is unreadable.
    """
    found = _read(folder / RUNNING, metrics) if running else {}
    return found | _read(folder / FILE, metrics)


def _read(path: Path, metrics: Collection[str] | None) -> dict[str, Curves]:
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StudyError(f"{path} cannot be read: {error.strerror}") from error
    found: dict[str, Curves] = {}
    for line in lines:
        try:
            shape = json.loads(line)
            found[str(shape["trial"])] = {
                str(metric): tuple(
                    Observation(str(metric), float(value), _time(time)) for time, value in points
                )
                for metric, points in shape["metrics"].items()
                if metrics is None or metric in metrics
            }
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return found


def _line(trial: str, log: ObservationLog, last_line: int | None) -> bytes:
    """One line of a file, b"" for a trial without a finite value."""
    metrics = {
        metric: points for metric in log.metrics if (points := _points(log, metric, last_line))
    }
    counts = {metric: log.column(metric).count for metric in metrics}
    reported = {metric: count for metric, count in counts.items() if count > MAX_VALUES}
    shape = {"trial": trial, "metrics": metrics} | ({"reported": reported} if reported else {})
    return json.dumps(shape).encode() + b"\n" if metrics else b""


def _points(log: ObservationLog, metric: str, last_line: int | None) -> list[list[Any]]:
    points = log.column(metric).points(last_line)
    if len(points) > MAX_VALUES:
        indices = range(len(points))
        extremes = (choose(indices, key=lambda index: points[index][2]) for choose in (min, max))
        step = (len(points) - 1) / (MAX_VALUES - 3)
        chosen = {*extremes, *(round(step * k) for k in range(MAX_VALUES - 2))}
        points = [points[index] for index in sorted(chosen)]
    return [[_text(time), value] for _, time, value in points]


def _text(time: float) -> str | None:
    return None if time == UNDATED else datetime.fromtimestamp(time, UTC).isoformat()


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
