"""Trials as a table that fits the terminal, and the short texts around it. Pure: a Result in, rich renderables out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.table import Table
from rich.text import Text

from tuner.cli.terminal import plain
from tuner.result import Goal, Result, Trial, TrialState
from tuner.space import Value

WORDS = {
    TrialState.WAITING: ("waiting", "dim"),
    TrialState.RUNNING: ("running", "cyan"),
    TrialState.SUCCEEDED: ("done", "green"),
    TrialState.EARLY_STOPPED: ("pruned", "yellow"),
    TrialState.METRICS_UNAVAILABLE: ("no metric", "red"),
    TrialState.FAILED: ("failed", "red"),
    TrialState.KILLED: ("killed", "red"),
}
FAILURES = (TrialState.METRICS_UNAVAILABLE, TrialState.FAILED, TrialState.KILLED)
FIXED_WIDTH = 25  # number, state and time, with their padding
COLUMN_WIDTH = 11  # the least that holds -1.234e-05 and its padding


def number(value: Value) -> str:
    """A value for people: four significant digits, text on one line. Files and flags get tuner.space.text instead."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return plain(value) if isinstance(value, str) else str(value)


def long_number(value: Value) -> str:
    """Return a value for people with six significant digits, where there is room for them."""
    return f"{value:.6g}" if isinstance(value, float) else number(value)


def assignments(trial: Trial) -> str:
    """`lr=0.0004 bs=64`."""
    return " ".join(f"{name}={number(value)}" for name, value in trial.parameters.items())


def duration(seconds: float) -> str:
    """`0:07`, `12:34`, `1:02:03`."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def took(trial: Trial, now: datetime | None = None) -> str:
    """How long the trial ran, or has run until now; empty before it starts."""
    if trial.started is None:
        return ""
    end = trial.ended or (now or datetime.now(UTC) if not trial.state.finished else None)
    return duration((end - trial.started).total_seconds()) if end else ""


def counts(result: Result) -> str:
    """`12 done, 3 running, 1 failed`."""
    tally = Counter(trial.state for trial in result.trials)
    return (
        ", ".join(f"{tally[state]} {word}" for state, (word, _) in WORDS.items() if tally[state])
        or "no trials yet"
    )


def waits(trial: Trial) -> bool:
    """True for a trial that the cluster calls running while its pod does not run."""
    return trial.state is TrialState.RUNNING and bool(trial.reason)


def trouble(trial: Trial) -> str:
    """Return the word for a trial that waits although the cluster calls it running.

    Its pod has started if its node does not answer, or if Katib waits for its metrics.
    """
    if trial.reason.startswith("NodeNotReady"):
        return "not ready"
    return "stuck" if trial.reason.startswith("its pod") else "pending"


def waiting(result: Result, most: int = 3) -> list[str]:
    """`trials 0, 1 are pending: Unschedulable: ...`, one line per reason."""
    numbers: dict[tuple[str, str], list[str]] = {}
    for trial in filter(waits, result.trials):
        numbers.setdefault((trouble(trial), plain(trial.reason)), []).append(str(trial.number))
    lines = []
    for (word, reason), who in list(numbers.items())[:most]:
        some = ", ".join(who[:5]) + (f" and {len(who) - 5} more" if len(who) > 5 else "")
        lines.append(
            f"trial{'s' if len(who) > 1 else ''} {some} {'are' if len(who) > 1 else 'is'} {word}: {reason}"
        )
    return lines


def failures(result: Result, most: int = 3) -> list[str]:
    """`trial 3 failed: exit code 1: ...`, one line per reason, the newest first."""
    failed = [
        trial for trial in reversed(result.trials) if trial.state in FAILURES and trial.reason
    ]
    by_reason = {
        trial.reason: f"trial {trial.number} {WORDS[trial.state][0]}: {plain(trial.reason)}"
        for trial in failed
    }
    return list(by_reason.values())[:most]


def best_line(result: Result) -> Text:
    """`best fd 21.4 in trial 7: lr=0.0004 bs=64`, or why there is none."""
    best = result.best
    if best is None:
        finished = any(trial.state.finished for trial in result.trials)
        lacks = f"has a finite {result.objective.metric}" if finished else "has finished"
        return Text(f"best: no trial {lacks} yet", style="dim")
    value = number(best.metrics[result.objective.metric])
    return Text.assemble(
        "best ",
        (f"{result.objective.metric} {value}", "bold green"),
        f" in trial {best.number}: ",
        assignments(best),
    )


def best_text(result: Result) -> str:
    """`fd 21.4  lr=0.0004 bs=64`, or empty."""
    best, metric = result.best, result.objective.metric
    return f"{metric} {number(best.metrics[metric])}  {assignments(best)}" if best else ""


def goal(result: Result) -> str:
    """`minimise fd` and, where there is one, `to 20`."""
    verb = "minimise" if result.objective.goal_type is Goal.MINIMIZE else "maximise"
    aim = "" if result.objective.goal is None else f" to {number(result.objective.goal)}"
    return f"{verb} {result.objective.metric}{aim}"


def choose(result: Result, rows: int) -> list[Trial]:
    """At most `rows` trials, by number: those that run first, then the best three, then the newest.

    With a thousand trials the table stays one screen; `counts` says how many there are.
    """
    if len(result.trials) <= rows:
        return list(result.trials)
    newest = result.trials[::-1]
    running = [trial for trial in newest if trial.state is TrialState.RUNNING]
    wanted = {trial.number: trial for trial in [*running, *ranked(result)[:3], *newest]}
    return sorted(list(wanted.values())[:rows], key=lambda trial: trial.number)


def ranked(result: Result) -> list[Trial]:
    """The trials that can be best, best first."""
    metric, sign = result.objective.metric, 1 if result.objective.goal_type is Goal.MINIMIZE else -1
    able = [t for t in result.trials if t.state in (TrialState.SUCCEEDED, TrialState.EARLY_STOPPED)]
    return sorted((t for t in able if metric in t.metrics), key=lambda t: sign * t.metrics[metric])


def trials(
    result: Result, shown: Sequence[Trial], width: int, *, now: datetime | None = None
) -> Table:
    """A table of `shown` that is at most `width` cells wide.

    One column per parameter while they fit, otherwise all of them in one; further metrics only in
    what is left over.
    """
    names = list(dict.fromkeys(name for trial in shown for name in trial.parameters))
    metric = result.objective.metric
    others = further_metrics(shown, metric)
    room = max(0, (width - FIXED_WIDTH - max(len(metric) + 2, COLUMN_WIDTH)) // COLUMN_WIDTH)
    apart = len(names) <= room
    table = Table(
        box=None, pad_edge=False, header_style="bold", expand=False, width=None if apart else width
    )
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column(metric, justify="right", no_wrap=True)
    for name in names if apart else ["parameters"]:
        table.add_column(
            name,
            justify="right" if apart else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=None if apart else 1,
        )
    others = others[: room - len(names)] if apart else []
    for name in others:
        table.add_column(
            Text(name, style="dim"), justify="right", no_wrap=True, overflow="ellipsis"
        )
    table.add_column("time", justify="right", no_wrap=True)
    nodes = apart and len(names) + len(others) < room and any(trial.node for trial in shown)
    if nodes:
        table.add_column(
            Text("node", style="dim"), no_wrap=True, overflow="ellipsis", max_width=COLUMN_WIDTH * 3
        )
    best = result.best
    for trial in shown:
        is_best = best is not None and trial.number == best.number
        cells = _row(trial, metric, names, others, apart, now) + (
            [Text(plain(trial.node))] if nodes else []
        )
        table.add_row(*cells, style="bold green" if is_best else "")
    return table


def further_metrics(shown: Sequence[Trial], objective: str) -> list[str]:
    """Return the metrics besides the objective, without those that repeat an earlier column value by value."""
    columns: dict[tuple[float | None, ...], str] = {}
    for name in dict.fromkeys([objective, *(name for trial in shown for name in trial.metrics)]):
        columns.setdefault(tuple(trial.metrics.get(name) for trial in shown), name)
    return [name for name in columns.values() if name != objective]


def _row(
    trial: Trial,
    metric: str,
    names: list[str],
    others: list[str],
    apart: bool,
    now: datetime | None,
) -> list[Text]:
    word, style = (trouble(trial), "yellow") if waits(trial) else WORDS[trial.state]
    values = (
        [number(trial.parameters.get(name, "")) for name in names]
        if apart
        else [assignments(trial)]
    )
    metrics = [number(trial.metrics[m]) if m in trial.metrics else "" for m in (metric, *others)]
    if not metrics[0] and trial.reason and not apart:
        values = [f"{values[0]}  {plain(trial.reason)}"]
    cells = [str(trial.number), word, metrics[0], *values, *metrics[1:], took(trial, now)]
    return [Text(cell, style=style if index == 1 else "") for index, cell in enumerate(cells)]
