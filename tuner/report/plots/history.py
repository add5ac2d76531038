"""Optimisation history: each trial's objective, and the best so far."""

from __future__ import annotations

from tuner.analysis.view import View
from tuner.report.figure import GREEN, axis, figure, line, rounded
from tuner.report.plots.drawn import Drawn, nothing
from tuner.report.scale import objective, outside, points, scale
from tuner.result import Goal

FEW = 12  # trials up to which each has its tick


def best_so_far(study: View) -> list[tuple[int, float]]:
    """Return (number of the trial, best objective up to it) for each scored trial."""
    found: list[tuple[int, float]] = []
    for trial, value in study.scored:
        best = (
            found[-1][1]
            if found and not study.result.objective.better(value, found[-1][1])
            else value
        )
        found.append((trial.number, best))
    return found


def draw(study: View) -> Drawn:
    """Draw the points and the step line of the best so far."""
    if not study.scored:
        return nothing(study.metric)
    best = "lowest" if study.result.objective.goal_type is Goal.MINIMIZE else "highest"
    text = (
        f"The {study.metric} of each trial; the line is the {best} so far. "
        f"{len(study.scored)} of {len(study.result.trials)} trials have a {study.metric}."
        f"{outside(study)}"
    )
    on, steps = scale(study), best_so_far(study)
    last = len(study.result.trials) - 1
    numbers, values = [n for n, _ in steps], rounded(on.clip(v) for _, v in steps)
    if numbers[-1] < last:  # the line continues to the last trial
        numbers, values = [*numbers, last], [*values, values[-1]]
    so_far = line(numbers, values, "best so far", GREEN, line={"shape": "hv"}, hoverinfo="skip")
    across = axis("trial", range=[-0.5 - 0.02 * last, last + 0.5 + 0.02 * last])
    across |= {"dtick": 1} if last < FEW else {}
    traces = [so_far, *points(study, study.scored, lambda trial: trial.number)]
    return Drawn(text, (figure(traces, across, on.axis(study.metric), **objective(on)),))
