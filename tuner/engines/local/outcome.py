"""Judges a finished trial as Katib's trial controller does: a pure function of the files that the trial left.

Succeeded needs exit code 0 and a finite objective; a trial that exits 0 without one is
MetricsUnavailable; any other exit is Failed, and its metrics do not count. One that an
early-stopping cut applies to is EarlyStopped, whether it was stopped in time or had finished
already.
"""

from __future__ import annotations

import signal
from pathlib import Path

from tuner.engines.local import push
from tuner.engines.local.journal import TrialRecord
from tuner.engines.local.logs import last_line as final_line
from tuner.engines.local.runner import Exit
from tuner.experiment.early_stopping import Rules
from tuner.experiment.model import Experiment
from tuner.metrics import MetricsReader
from tuner.metrics.reports import hint
from tuner.result import TrialState

_HINTS: dict[int, str] = {  # by signal
    signal.SIGKILL: " (out of memory?)",
    signal.SIGBUS: " (/dev/shm is full? Mount an emptyDir with medium Memory there)",
}
_HINT_BYTES = 1 << 18  # of a log without the objective that are searched for it


def judge(
    experiment: Experiment,
    rules: Rules | None,
    entry: TrialRecord,
    reader: MetricsReader,
    end: Exit,
    log: Path,
    python: str = "",
) -> int | None:
    """Fill in state, metrics, curve and reason of `entry`; returns the last line that counts, None for all lines."""
    metric = experiment.objective.metric
    last_line: int | None = None
    whole = tuple(reader.curve(metric))
    stop = rules.stop_at(entry.cuts, whole) if rules and entry.cuts else None
    if stop is not None:
        last_line, whole = reader.observations.line_of(metric, stop), whole[:stop]
        entry.state = TrialState.EARLY_STOPPED
        entry.reason = f"stopped at report {stop}: {metric} had not reached {dict(entry.cuts).get(stop, entry.cuts[0][1]):g}"
    elif end.error or end.code != 0:
        entry.state, entry.reason = TrialState.FAILED, failure(end, log, python)
        return None
    found = reader.aggregate(experiment.strategies, last_line)
    entry.metrics, entry.curve = found, whole
    if reader.error or metric not in found:  # Katib records nothing when its collector fails
        entry.state, entry.metrics, entry.curve = TrialState.METRICS_UNAVAILABLE, {}, ()
        entry.reason = _missing(reader, metric)
        if reader.path == log and not reader.error and (hinted := _hint(log, metric)):
            entry.reason = f"{metric} was not reported, but {hinted}"
    elif stop is None:
        entry.state = TrialState.SUCCEEDED
    return last_line


def _missing(reader: MetricsReader, metric: str) -> str:
    """Why the objective has no value: what the file held instead."""
    if reader.error:
        return f"{reader.path.name}, {reader.error}"
    if reader.observations.column(metric).count:
        return f"the value of {metric} that counts is not a finite number"
    try:
        empty = reader.path.stat().st_size == 0
    except FileNotFoundError:
        if reader.path.name == push.FILE:
            return f"{metric} was not reported: the trial pushed no metrics"
        return f"{metric} was not reported: no such file ({reader.path.name})"
    if empty:
        return f"{metric} was not reported: the file is empty ({reader.path.name})"
    if names := reader.other_names():
        return f"{metric} was not reported; seen: {', '.join(names)}"
    return f"{metric} was not reported: {reader.expected(metric)}"


def _hint(log: Path, metric: str) -> str:
    """Return how the trial printed the metric, with the filter that reads it; "" if it did not."""
    try:
        with log.open("rb") as file:
            text = file.read(_HINT_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    return hint(text, metric)


def failure(end: Exit, log: Path, python: str = "") -> str:
    """One line: how the command exited, and the last line that it printed.

    `python` is the interpreter, which is named where a module is missing in it.
    """
    if end.error:
        how = end.error
    elif end.code is not None and end.code < 0:
        try:
            how = f"killed by {signal.Signals(-end.code).name}"
        except ValueError:
            how = f"killed by signal {-end.code}"
        how += _HINTS.get(-end.code, "")
    else:
        how = f"exit code {end.code}"
    last = final_line(log)
    text = f"{how}: {last}" if last and last not in how else how
    missing = python and "ModuleNotFoundError" in text
    return f"{text}, with the interpreter {python}" if missing else text
