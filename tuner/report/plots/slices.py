"""One figure for each parameter: its values against the objective, and the model's mean over the other parameters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tuner.analysis import importance
from tuner.analysis.importance import Surface
from tuner.analysis.view import View, sample
from tuner.report.figure import (
    GREY,
    Figure,
    figure,
    line,
    parameter_axis,
    rounded,
    shown,
)
from tuner.report.plots.drawn import Drawn, nothing
from tuner.report.scale import objective, outside, points, scale
from tuner.result import Trial
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
    left = (
        f" The {MOST} most important of {len(parameters)} are shown."
        if len(parameters) > MOST
        else ""
    )
    chosen = _chosen(study)
    if len(chosen) < len(study.complete):
        left += (
            f" {len(chosen)} of {len(study.complete)} trials are drawn: the best, and a sample of "
            "the rest."
        )
    model = ", and the model's mean" if study.surface else ""
    text = (
        f"The {study.metric} at each value of a parameter{model}. Late trials are stronger."
        f"{outside(study)}{left}"
    )
    method = (
        "The line is the mean of a Gaussian process over all other parameters." + study.caution
        if study.surface
        else ""
    )
    figures = tuple(_slice(study, parameter, chosen) for parameter in parameters[:MOST])
    return Drawn(text, figures, method)


def _chosen(study: View) -> list[tuple[Trial, float]]:
    """The trials that are drawn, by number."""
    able = {trial.number for trial, _ in study.complete}
    drawn = sample([item for item in study.ranked if item[0].number in able], POINTS)
    return sorted(drawn, key=lambda item: item[0].number)


def _slice(study: View, parameter: Parameter, drawn: Sequence[tuple[Trial, float]]) -> Figure:
    on = scale(study)
    traces = points(
        study, drawn, lambda trial: shown([trial.parameters[parameter.name]])[0], fade=True
    )
    if study.surface:
        at, mean = dependence(study.surface, parameter)
        traces.insert(0, line(shown(at), rounded(mean), "model", GREY, hoverinfo="skip"))
    across, up = parameter_axis(parameter), on.axis(study.metric)
    return figure(traces, across, up, height=280, showlegend=False, **objective(on))


def dependence(surface: Surface, parameter: Parameter) -> tuple[list[Value], list[float]]:
    """Return values of one parameter, and the objective there: the model's mean over the rest of the space."""
    index = surface.parameters.index(parameter)
    values, units = importance.grid(parameter, STEPS)
    rest = importance.samples(len(surface.parameters), SAMPLES)  # [S, P]
    cube = np.repeat(rest[None], len(values), axis=0)  # [steps, S, P]
    cube[:, :, index] = np.asarray(units)[:, None]
    means = surface.mean(cube.reshape(-1, rest.shape[1])).reshape(len(values), -1).mean(axis=1)
    return values, [float(value) for value in surface.objective(means)]
