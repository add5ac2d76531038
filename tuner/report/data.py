"""What the page says in numbers and tables, as plain data: pure functions of a View. No plotting, no HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tuner.analysis.view import View
from tuner.result import Goal, Result, Trial, TrialState
from tuner.space import Value, text

DIVERGED = "diverged"  # a metric that is above zero for a trial whose training became non-finite
FAILURES = (TrialState.FAILED, TrialState.METRICS_UNAVAILABLE, TrialState.KILLED)


@dataclass(frozen=True, slots=True)
class Table:
    """Headings and rows of equal length; `best` is the index of the best trial's row.

    `numbers` holds the trial of each row, `words` which columns are text.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[int, ...] = ()
    words: tuple[bool, ...] = ()
    best: int | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Trials that failed or diverged for the same reason."""

    kind: str
    reason: str
    numbers: tuple[int, ...]


def ranked(study: View) -> list[tuple[Trial, float]]:
    """Return the scored trials, best first; equal ones by number."""
    sign = 1 if study.result.objective.goal_type is Goal.MINIMIZE else -1
    return sorted(study.scored, key=lambda item: sign * item[1])


def sample(order: Sequence[tuple[Trial, float]], most: int) -> list[tuple[Trial, float]]:
    """Return at most `most` of the ranked trials: the best half of that many, and an even choice of the others."""
    if len(order) <= most:
        return list(order)
    head, rest = list(order[: most // 2]), order[most // 2 :]
    step = len(rest) / (most - len(head))
    return head + [rest[int(index * step)] for index in range(most - len(head))]


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
    """Return the failed and the diverged trials, one entry for each reason, the most frequent first."""
    found: dict[tuple[str, str], list[int]] = {}
    for trial in result.trials:
        if trial.state in FAILURES:
            found.setdefault((trial.state.value, trial.reason or "no reason is known"), []).append(
                trial.number
            )
        elif trial.metrics.get(DIVERGED, 0) > 0:
            reason = (
                "the training became non-finite, so the scores are those of the untrained weights"
            )
            found.setdefault(("Diverged", reason), []).append(trial.number)
    groups = [Failure(kind, reason, tuple(numbers)) for (kind, reason), numbers in found.items()]
    return sorted(groups, key=lambda group: -len(group.numbers))


def table(result: Result) -> Table:
    """Return all trials, numbers to six digits (JSON has them exactly); an empty cell where there is no value.

    Metrics that equal another one in every trial are left out.
    """
    parameters = list(dict.fromkeys(name for trial in result.trials for name in trial.parameters))
    metrics = _metrics(result)
    reasons = any(trial.reason for trial in result.trials)
    headings = (
        "trial",
        "state",
        metrics[0],
        *parameters,
        *metrics[1:],
        "seconds",
        *(["reason"] if reasons else []),
    )
    rows = []
    for trial in result.trials:
        values = [_number(trial.metrics.get(name)) for name in metrics]
        chosen = [_text(trial.parameters.get(name)) for name in parameters]
        took = _seconds(trial.started, trial.ended)
        rows.append((str(trial.number), trial.state.value, values[0], *chosen, *values[1:], took))
        rows[-1] += (trial.reason,) if reasons else ()
    best = result.best
    where = next(
        (i for i, trial in enumerate(result.trials) if best and trial.number == best.number), None
    )
    words = tuple(any(not _is_number(row[i]) for row in rows) for i in range(len(headings)))
    return Table(
        headings, tuple(rows), tuple(trial.number for trial in result.trials), words, where
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
    return " ".join(f"{name}={_text(value)}" for name, value in trial.parameters.items())


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _text(value: Value | None) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else text(value)


def _seconds(started: datetime | None, ended: datetime | None) -> str:
    return f"{(ended - started).total_seconds():.1f}" if started and ended else ""


def _is_number(text: str) -> bool:
    try:
        float(text or 0)
    except ValueError:
        return False
    return True
