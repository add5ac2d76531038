"""Learning curves: what the trials of a study reported, value by value, in `curves.jsonl` of the study's directory.

One line for each finished trial: {"trial": NAME, "metrics": {METRIC: [[TIME, VALUE], ...]}}. TIME
is RFC 3339 text, or null where the trial printed none. Values are finite and in the order of their
reports; of a metric with more than MAX_VALUES values, evenly chosen ones are kept, the first, the
lowest, the highest and the last included, and "reported": {METRIC: COUNT} says how many there were.

It is a log of tuner.store.records. The last record of a trial counts, since a trial can run again.

`running-curves.json` is a document with records of the same form: what trials on a cluster had
reported when they were looked at last. A trial in `curves.jsonl` takes precedence.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tuner.errors import StudyDamaged, StudyError
from tuner.metrics import UNDATED, ObservationLog
from tuner.result import Observation
from tuner.store import files, records

FILE, RUNNING = "curves.jsonl", "running-curves.json"
MAX_VALUES = 1000  # per trial and metric: more than a plot can show

Curves = Mapping[str, tuple[Observation, ...]]  # by the name of a metric


class Writer:
    """Appends to the curves of one study. The file stays open, so its directory may be renamed.

    Raises StudyError if the file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._log = records.Writer.open(folder / FILE)

    def add(self, trial: str, log: ObservationLog, last_line: int | None = None) -> bool:
        """Add a trial's curves, up to line `last_line` of its file; returns whether it has any."""
        record = _record(trial, log, last_line)
        if record:
            self._log.append([record])
            self._log.sync()
        return bool(record)

    def close(self) -> None:
        """Flush and close the file; harmless when repeated."""
        self._log.close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def replace_running(folder: Path, logs: Mapping[str, ObservationLog]) -> None:
    """Store what running trials have reported so far. Raises StudyError if the file cannot be written."""
    path = folder / RUNNING
    try:
        found = {trial: _record(trial, log, None) for trial, log in logs.items()}
        trials = [record for record in found.values() if record]
        files.replace(path, records.seal({"trials": trials}))
    except OSError as error:
        raise StudyError(f"{path} cannot be written: {error.strerror}") from error


def read(
    folder: Path, metrics: Collection[str] | None = None, *, running: bool = False
) -> dict[str, Curves]:
    """Return the stored curves of a study by the names of its trials, of some metrics or of all.

    Those of finished trials, and with `running` also those of trials that ran on a cluster when
    they were looked at.

    Raises StudyError if a file is unreadable, StudyDamaged if it is damaged.
    """
    shapes = [*(_running(folder / RUNNING) if running else ()), *_finished(folder / FILE)]
    try:
        return {str(shape["trial"]): _curves(shape["metrics"], metrics) for shape in shapes}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StudyDamaged(
            f"{folder / FILE} holds no curves ({type(error).__name__}): it was written by another "
            "version of gantune. Use that version, or start over with --fresh"
        ) from error


def repair(folder: Path) -> Path | None:
    """Keep the intact records of damaged curves. Returns where the damaged file is now; None without damage."""
    try:
        contents = records.read(folder / FILE, marked=True)
    except OSError:  # there are no curves
        return None
    return records.repair(folder / FILE, contents) if contents.damage else None


def _finished(path: Path) -> list[records.Record]:
    try:
        contents = records.read(path, marked=True)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StudyError(f"{path} cannot be read: {error.strerror}") from error
    records.ensure_intact(path, contents)
    return contents.records


def _running(path: Path) -> list[records.Record]:
    try:
        return list(records.unseal(path.read_bytes())["trials"])
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StudyError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StudyDamaged(f"{path} is damaged ({error}): delete it, and look again") from error


def _curves(shape: Mapping[str, Any], metrics: Collection[str] | None) -> Curves:
    return {
        str(metric): tuple(
            Observation(str(metric), float(value), _time(time)) for time, value in points
        )
        for metric, points in shape.items()
        if metrics is None or metric in metrics
    }


def _record(trial: str, log: ObservationLog, last_line: int | None) -> dict[str, Any]:
    """Return one record of a file; an empty one for a trial without a finite value."""
    metrics = {
        metric: points for metric in log.metrics if (points := _points(log, metric, last_line))
    }
    counts = {metric: log.column(metric).count for metric in metrics}
    reported = {metric: count for metric, count in counts.items() if count > MAX_VALUES}
    shape = {"trial": trial, "metrics": metrics} | ({"reported": reported} if reported else {})
    return shape if metrics else {}


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
