"""Optimisation history: each trial's objective, and the best so far."""

from __future__ import annotations

from tuner.analysis.view import View
from tuner.report.figure import AMBER, BLUE, axis, escaped, figure, line, markers, rounded
from tuner.report.plots.drawn import Drawn, nothing
from tuner.result import Goal, TrialState


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
        f"The {study.metric} of each scored trial, and the {best} so far. "
        f"n = {len(study.scored)} of {len(study.result.trials)} trials."
    )
    traces = []
    for state, name, colour in (
        (TrialState.SUCCEEDED, "trial", BLUE),
        (TrialState.EARLY_STOPPED, "stopped early", AMBER),
    ):
        chosen = [(trial.number, value) for trial, value in study.scored if trial.state is state]
        if chosen:
            numbers, values = (
                [number for number, _ in chosen],
                rounded(value for _, value in chosen),
            )
            hover = f"trial %{{x}}<br>{escaped(study.metric)} %{{y}}<extra></extra>"
            traces.append(markers(numbers, values, name, colour, hovertemplate=hover))
    steps = best_so_far(study)
    traces.append(
        line(
            [n for n, _ in steps], rounded(v for _, v in steps), "best so far", line={"shape": "hv"}
        )
    )
    values = [value for _, value in study.scored]
    return Drawn(text, (figure(traces, axis("trial"), axis(study.metric, values)),))
