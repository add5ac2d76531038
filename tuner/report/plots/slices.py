"""One figure for each parameter: its values against the objective, and the model's mean over the other parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tuner.analysis import importance
from tuner.analysis.importance import Surface
from tuner.analysis.view import View
from tuner.report.data import ranked, sample
from tuner.report.figure import (
    AMBER,
    GREEN,
    Figure,
    axis,
    figure,
    line,
    markers,
    parameter_axis,
    rounded,
    shown,
)
from tuner.report.plots.drawn import Drawn, nothing
from tuner.result import Trial, TrialState
from tuner.space import Parameter, Value

MOST = 12  # parameters; those that matter most
POINTS = 1_000  # trials in each figure: the best half of them, and a sample of the rest
STEPS = 40
SAMPLES = 128


def draw(study: View) -> Drawn:
    """Draw the slices, the most important parameter first."""
    if not study.complete:
        return nothing(study.metric)
    order = {name: index for index, name in enumerate(study.effects)}
    parameters = sorted(study.experiment.parameters, key=lambda p: order.get(p.name, len(order)))
    model = ", and the mean of the model over all other parameters" if study.surface else ""
    left = (
        f" The {MOST} most important of {len(parameters)} are shown."
        if len(parameters) > MOST
        else ""
    )
    chosen = _chosen(study)
    if len(chosen) < len(study.complete):
        left += f" {len(chosen)} of {len(study.complete)} trials are drawn: the best, and a sample of the rest."
    late = " Late trials are darker." + (
        " Trials that were stopped early are orange." if study.caution else ""
    )
    text = f"The {study.metric} of each scored trial against one parameter{model}.{late}{study.caution}{left}"
    return Drawn(text, tuple(_slice(study, parameter, chosen) for parameter in parameters[:MOST]))


def _chosen(study: View) -> list[tuple[Trial, float]]:
    """The trials that are drawn, by number."""
    able = {trial.number for trial, _ in study.complete}
    drawn = sample([item for item in ranked(study) if item[0].number in able], POINTS)
    return sorted(drawn, key=lambda item: item[0].number)


def _slice(study: View, parameter: Parameter, drawn: Sequence[tuple[Trial, float]]) -> Figure:
    stopped = [each for each in drawn if each[0].state is TrialState.EARLY_STOPPED]
    others = [each for each in drawn if each[0].state is not TrialState.EARLY_STOPPED]
    by_age = {
        "color": [t.number for t, _ in others],
        "colorscale": [[0, "#a5c8f5"], [1, "#1b56ab"]],
        "showscale": False,
    }
    traces = [_points(parameter, stopped, "stopped early", {"color": AMBER})] if stopped else []
    traces.append(_points(parameter, others, "trial", by_age))
    values = rounded(value for _, value in drawn)
    if study.surface:
        at, mean = dependence(study.surface, parameter)
        traces.append(line(shown(at), rounded(mean), "model", GREEN, hoverinfo="skip"))
    return figure(
        traces, parameter_axis(parameter), axis(study.metric, values), height=280, showlegend=False
    )


def _points(
    parameter: Parameter, drawn: Sequence[tuple[Trial, float]], name: str, look: Mapping[str, Any]
) -> dict[str, Any]:
    return markers(
        shown(trial.parameters[parameter.name] for trial, _ in drawn),
        rounded(value for _, value in drawn),
        name,
        marker=look,
        customdata=[trial.number for trial, _ in drawn],
        hovertemplate="trial %{customdata}<br>%{x}<br>%{y}<extra></extra>",
    )


def dependence(surface: Surface, parameter: Parameter) -> tuple[list[Value], list[float]]:
    """Return values of one parameter, and the objective there: the model's mean over the rest of the space."""
    index = surface.parameters.index(parameter)
    values, units = importance.grid(parameter, STEPS)
    rest = importance.samples(len(surface.parameters), SAMPLES)  # [S, P]
    cube = np.repeat(rest[None], len(values), axis=0)  # [steps, S, P]
    cube[:, :, index] = np.asarray(units)[:, None]
    means = surface.mean(cube.reshape(-1, rest.shape[1])).reshape(len(values), -1).mean(axis=1)
    return values, [float(value) for value in surface.objective(means)]
