"""What a report shows, as plain data: pure functions of a Result. No plotting, no HTML."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from tuner.result import Result, Trial, TrialState
from tuner.space import Value, text


@dataclass(frozen=True, slots=True)
class Table:
    """Headings and rows of equal length; `best` is the index of the best trial's row."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: int | None = None


def scored(result: Result) -> list[tuple[Trial, float]]:
    """The trials that can be best, by number, with their objective: ended well, and finite."""
    metric = result.objective.metric
    able = [t for t in result.trials if t.state in (TrialState.SUCCEEDED, TrialState.EARLY_STOPPED)]
    return [(t, t.metrics[metric]) for t in able if math.isfinite(t.metrics.get(metric, math.nan))]


def counts(result: Result) -> dict[str, int]:
    """How many trials are in each state, by Katib's names, most first."""
    return dict(Counter(trial.state.value for trial in result.trials).most_common())


def seconds(result: Result) -> float | None:
    """From the first trial's start to the last one's end; None before a trial has ended."""
    starts = [trial.started for trial in result.trials if trial.started]
    ends = [trial.ended for trial in result.trials if trial.ended]
    return (max(ends) - min(starts)).total_seconds() if starts and ends else None


def table(result: Result) -> Table:
    """All trials, numbers to six digits (JSON has them exactly); an empty cell where there is nothing."""
    metric = result.objective.metric
    parameters = list(dict.fromkeys(name for trial in result.trials for name in trial.parameters))
    metrics = list(dict.fromkeys([metric, *(name for trial in result.trials for name in trial.metrics)]))
    reasons = any(trial.reason for trial in result.trials)
    headings = ("trial", "state", metrics[0], *parameters, *metrics[1:], "seconds", *(["reason"] if reasons else []))
    rows = []
    for trial in result.trials:
        values = [_number(trial.metrics.get(name)) for name in metrics]
        chosen = [_text(trial.parameters.get(name)) for name in parameters]
        took = _seconds(trial.started, trial.ended)
        rows.append((str(trial.number), trial.state.value, values[0], *chosen, *values[1:], took))
        rows[-1] += (trial.reason,) if reasons else ()
    best = result.best
    where = next((i for i, trial in enumerate(result.trials) if best and trial.number == best.number), None)
    return Table(headings, tuple(rows), where)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _text(value: Value | None) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else text(value)


def _seconds(started: datetime | None, ended: datetime | None) -> str:
    return f"{(ended - started).total_seconds():.1f}" if started and ended else ""
