"""Timeline: when each trial ran, and how it finished."""

from __future__ import annotations

from datetime import UTC, datetime

from tuner.analysis.view import View
from tuner.report.figure import AMBER, BLUE, GREEN, GREY, PINK, RED, axis, figure
from tuner.report.plots.drawn import Drawn
from tuner.result import Trial, TrialState

COLOURS = {
    TrialState.SUCCEEDED: BLUE,
    TrialState.EARLY_STOPPED: AMBER,
    TrialState.RUNNING: GREEN,
    TrialState.FAILED: RED,
    TrialState.METRICS_UNAVAILABLE: PINK,
    TrialState.KILLED: GREY,
}
UNITS = (
    (2 * 86400, 86400, "days"),
    (2 * 3600, 3600, "hours"),
    (300, 60, "minutes"),
    (0, 1, "seconds"),
)


def spans(study: View, now: datetime) -> list[tuple[Trial, float, float]]:
    """Return (trial, start, duration) in seconds since the first start; a running trial lasts until `now`."""
    ran = [trial for trial in study.result.trials if trial.started]
    first = min((trial.started for trial in ran if trial.started), default=now)
    found = []
    for trial in ran:
        end = trial.ended or (now if trial.state is TrialState.RUNNING else None)
        if trial.started and end:
            found.append(
                (
                    trial,
                    (trial.started - first).total_seconds(),
                    (end - trial.started).total_seconds(),
                )
            )
    return found


def draw(study: View) -> Drawn:
    """Draw a bar for each trial."""
    held = spans(study, datetime.now(UTC))
    if not held:
        return Drawn("No trial has started yet.")
    most = max(start + length for _, start, length in held)
    _, size, unit = next(row for row in UNITS if most >= row[0])
    traces = []
    for state, colour in COLOURS.items():
        chosen = [row for row in held if row[0].state is state]
        if chosen:
            traces.append({
                "type": "bar", "orientation": "h", "name": state.value, "marker": {"color": colour},
                "y": [trial.number for trial, _, _ in chosen],
                "base": [round(start / size, 4) for _, start, _ in chosen],
                "x": [round(length / size, 4) for _, _, length in chosen],
                "customdata": [trial.number for trial, _, _ in chosen], "hoverinfo": "text",
                "textposition": "none",
            })  # fmt: skip
    busy = sum(length for _, _, length in held)
    text = f"When each trial ran. On average {busy / most if most else 1:.1f} trials ran at a time."
    height = 110 + min(420, 14 * len(held))
    y = axis("trial", autorange="reversed")
    drawn = figure(
        traces,
        axis(f"{unit} since the first start"),
        y,
        height=height,
        barmode="overlay",
        bargap=0.15,
    )
    return Drawn(text, (drawn,))
