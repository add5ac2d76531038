"""The objective against the cost of a trial, with the Pareto front."""

from __future__ import annotations

from tuner.analysis.view import View
from tuner.report.figure import AMBER, BLUE, axis, escaped, figure, line, markers, rounded
from tuner.report.plots.drawn import Drawn
from tuner.result import TrialState


def draw(study: View) -> Drawn:
    """Draw the trials that trained to their end, the baseline among them, and the Pareto front as a line."""
    metric = study.metric
    shown = [
        (trial, cost, value)
        for trial, value in study.scored
        if trial.state is TrialState.SUCCEEDED and (cost := study.result.cost(trial)) is not None
    ]
    if not shown:
        return Drawn("No finished trial has a known duration.")
    baseline, traces = study.result.baseline_trial, []
    hover = f"trial %{{customdata}}<br>{escaped(metric)} %{{y}} after %{{x}} s<extra></extra>"
    for name, colour, chosen in (
        ("trial", BLUE, [each for each in shown if each[0] is not baseline]),
        ("baseline", AMBER, [each for each in shown if each[0] is baseline]),
    ):
        if chosen:
            numbers = [trial.number for trial, _, _ in chosen]
            seconds, values = (
                rounded(each[1] for each in chosen),
                rounded(each[2] for each in chosen),
            )
            traces.append(
                markers(seconds, values, name, colour, customdata=numbers, hovertemplate=hover)
            )
    front = study.result.front()
    seconds, values = (
        rounded(cost for t in front if (cost := study.result.cost(t)) is not None),
        rounded(t.metrics[metric] for t in front),
    )
    traces.append(line(seconds, values, "no trial is better in both", hoverinfo="skip"))
    text = (
        f"The {metric} of each trial that was not stopped early, against its training time. No other trial is both "
        f"better and faster than one on the line. Compare times only if all trials ran on equal machines. "
        f"n = {len(shown)}."
    )
    x, y = (
        axis(
            study.result.objective.cost_metric or "wall time in seconds",
            [each[1] for each in shown],
        ),
        axis(metric, [each[2] for each in shown]),
    )
    return Drawn(text, (figure(traces, x, y),))
