"""The objective against the cost of a trial, with the Pareto front."""

from __future__ import annotations

from tuner.analysis.view import View
from tuner.report.figure import GREEN, axis, figure, line, rounded
from tuner.report.plots.drawn import Drawn
from tuner.report.scale import objective, points, scale
from tuner.result import TrialState


def draw(study: View) -> Drawn:
    """Draw the trials that trained to their end, and the Pareto front as a line."""
    metric, cost = study.metric, study.result.cost
    shown = [
        (trial, value)
        for trial, value in study.scored
        if trial.state is TrialState.SUCCEEDED and cost(trial) is not None
    ]
    if not shown:
        return Drawn("No finished trial has a known duration.")
    on, front = scale(study), study.result.front()
    seconds = rounded(cost(t) or 0.0 for t in front)
    values = rounded(on.clip(t.metrics[metric]) for t in front)
    joined = line(seconds, values, "no trial is better in both", GREEN, hoverinfo="skip")
    traces = points(study, shown, lambda trial: rounded([cost(trial) or 0.0])[0], unscored=False)
    text = (
        f"Whether a better {metric} takes longer. No trial is both better and faster than one on "
        f"the line. {len(shown)} trials that were not stopped early are shown."
    )
    method = "Times are comparable only if all trials ran on equal machines."
    name = study.result.objective.cost_metric or "wall time in seconds"
    across = axis(name, [cost(trial) or 0.0 for trial, _ in shown])
    drawn = figure([joined, *traces], across, on.axis(metric), **objective(on))
    return Drawn(text, (drawn,), method)
