"""What the page says in numbers and tables, as plain data: pure functions of a View. No plotting, no HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tuner.analysis.view import View
from tuner.result import Result, Trial, TrialState
from tuner.space import Value
from tuner.space import text as exact

DIVERGED = "diverged"  # a metric that is above zero for a trial whose training became non-finite
NON_FINITE = "the training became non-finite, so the scores are those of the untrained weights"
ENOUGH_TO_SHARE = 2  # failed trials from which on a value that they share means something
FAILURES = (TrialState.FAILED, TrialState.METRICS_UNAVAILABLE, TrialState.KILLED)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table of trials: its heading, what it holds, and whether that is text."""

    heading: str
    kind: str  # trial, state, objective, parameter, seconds, reason or metric
    words: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """The trials, best first; rows are as long as `columns`. The best trial's row is `best`.

    `numbers` holds the trial of each row.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[int, ...] = ()
    best: int | None = None

    @property
    def headings(self) -> tuple[str, ...]:
        """The headings of the columns."""
        return tuple(column.heading for column in self.columns)


@dataclass(frozen=True, slots=True)
class Failure:
    """Trials that failed or diverged for the same reason, and the values that only they have."""

    kind: str
    reason: str
    numbers: tuple[int, ...]
    shared: str = ""


def counts(result: Result) -> dict[str, int]:
    """Return how many trials are in each state, by Katib's names, most first."""
    return dict(Counter(trial.state.value for trial in result.trials).most_common())


def seconds(result: Result) -> float | None:
    """Return the time from the first trial's start to the last one's end; None before a trial has finished."""
    starts = [trial.started for trial in result.trials if trial.started]
    ends = [trial.ended for trial in result.trials if trial.ended]
    return (max(ends) - min(starts)).total_seconds() if starts and ends else None


def duration(seconds: float) -> str:
    """Return `12.3 s`, `6 min 43 s` or `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def left(result: Result, total: int | None) -> float | None:
    """Return about how many seconds a search still needs, by the mean of its trials; None where that is not known."""
    took = [
        (trial.ended - trial.started).total_seconds()
        for trial in result.trials
        if trial.started and trial.ended
    ]
    finished = sum(trial.state.finished for trial in result.trials)
    running = sum(trial.state is TrialState.RUNNING for trial in result.trials)
    if total is None or not took or finished >= total:
        return None
    return sum(took) / len(took) * (total - finished) / max(1, running)


def failures(result: Result) -> list[Failure]:
    """Return the failed and the diverged trials, grouped by reason, the largest group first."""
    found: dict[tuple[str, str], list[Trial]] = {}
    for trial in result.trials:
        if trial.state in FAILURES:
            reason = trial.reason or "no reason is known"
            found.setdefault((trial.state.value, reason), []).append(trial)
        elif trial.metrics.get(DIVERGED, 0) > 0:
            found.setdefault(("Diverged", NON_FINITE), []).append(trial)
    groups = [
        Failure(kind, reason, tuple(t.number for t in trials), _shared(trials, result.trials))
        for (kind, reason), trials in found.items()
    ]
    return sorted(groups, key=lambda group: -len(group.numbers))


def _shared(group: Sequence[Trial], trials: Sequence[Trial]) -> str:
    """Return the parameter values that separate a group of trials from those that succeeded.

    Such as `layers=6`, or `lr from 0.004 up`; "" if the group is too small to tell.
    """
    inside = {trial.number for trial in group}
    others = [t for t in trials if t.number not in inside and t.state is TrialState.SUCCEEDED]
    if len(group) < ENOUGH_TO_SHARE or not others:
        return ""
    found = []
    for name in group[0].parameters:
        held = [trial.parameters.get(name) for trial in group]
        rest = [trial.parameters.get(name) for trial in others]
        if len(set(held)) == 1 and held[0] not in rest:
            found.append(f"{name}={text(held[0])}")
            continue
        numbers = [value for value in held if isinstance(value, int | float)]
        other = [value for value in rest if isinstance(value, int | float)]
        if len(numbers) < len(held) or len(other) < len(rest):
            continue
        if min(numbers) > max(other):
            found.append(f"{name} from {text(min(numbers))} up")
        elif max(numbers) < min(other):
            found.append(f"{name} up to {text(max(numbers))}")
    return ", ".join(found)


def waiting(result: Result) -> dict[str, list[int]]:
    """Return the numbers of the trials that wait, by the reason why."""
    found: dict[str, list[int]] = {}
    for trial in result.trials:
        if trial.state is TrialState.WAITING or (
            trial.state is TrialState.RUNNING and trial.reason
        ):
            reason = trial.reason or "until another trial finishes"
            found.setdefault(reason, []).append(trial.number)
    return found


def table(study: View) -> Table:
    """Return all trials, numbers to six digits (JSON has them exactly).

    A cell without a value is empty. Metrics that equal another one in every trial are left out.
    """
    result = study.result
    order = [trial for trial, _ in study.ranked]
    scored = {trial.number for trial in order}
    order += [trial for trial in result.trials if trial.number not in scored]
    parameters = list(dict.fromkeys(name for trial in result.trials for name in trial.parameters))
    metrics = _metrics(result)
    columns = [
        ("trial", "trial", [str(trial.number) for trial in order]),
        ("state", "state", [trial.state.value for trial in order]),
        (metrics[0], "objective", [_number(trial.metrics.get(metrics[0])) for trial in order]),
        *((p, "parameter", [text(trial.parameters.get(p)) for trial in order]) for p in parameters),
        ("seconds", "seconds", [_seconds(trial.started, trial.ended) for trial in order]),
    ]
    if any(trial.reason for trial in order):
        columns.append(("reason", "reason", [trial.reason for trial in order]))
    columns += [
        (m, "metric", [_number(trial.metrics.get(m)) for trial in order]) for m in metrics[1:]
    ]
    return Table(
        tuple(
            Column(heading, kind, not all(map(_is_number, cells)))
            for heading, kind, cells in columns
        ),
        tuple(zip(*(cells for _, _, cells in columns), strict=True)),
        tuple(trial.number for trial in order),
        0 if scored else None,
    )


def _metrics(result: Result) -> list[str]:
    """The metrics' names, the objective first, without those whose values repeat an earlier one's."""
    names = dict.fromkeys(
        [result.objective.metric, *(name for trial in result.trials for name in trial.metrics)]
    )
    columns: dict[tuple[float | None, ...], str] = {}
    for name in names:
        columns.setdefault(tuple(trial.metrics.get(name) for trial in result.trials), name)
    return list(columns.values())


def scores(trial: Trial, objective: str) -> str:
    """Return the objective and, where the trial reports them, how much its samples cover and copy."""
    names = dict.fromkeys([objective, "coverage", "copied"])
    return ", ".join(f"{name} {trial.metrics[name]:.4g}" for name in names if name in trial.metrics)


def assignments(trial: Trial) -> str:
    """Return `lr=0.0004 bs=64`."""
    return " ".join(f"{name}={text(value)}" for name, value in trial.parameters.items())


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def text(value: Value | None) -> str:
    """Return a value for people, floats to six digits; "" without one."""
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else exact(value)


def _seconds(started: datetime | None, ended: datetime | None) -> str:
    return f"{(ended - started).total_seconds():.1f}" if started and ended else ""


def _is_number(text: str) -> bool:
    try:
        float(text or 0)
    except ValueError:
        return False
    return True
