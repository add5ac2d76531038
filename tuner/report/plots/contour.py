"""The objective over pairs of parameters, as the model sees it, with the trials on it."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np

from tuner.analysis import importance
from tuner.analysis.importance import Surface
from tuner.analysis.view import View
from tuner.report.figure import (
    GREEN,
    SCALE,
    Figure,
    escaped,
    figure,
    markers,
    parameter_axis,
    shown,
)
from tuner.report.plots import importances
from tuner.report.plots.drawn import Drawn
from tuner.result import Goal
from tuner.space import Parameter, Value

MOST = 3  # parameters of which all pairs are drawn
STEPS = 24
SAMPLES = 32


def draw(study: View) -> Drawn:
    """Draw the pairs of the parameters that matter most."""
    parameters = study.experiment.parameters
    if len(parameters) < 2:
        return Drawn("A pair needs two parameters, and the search space has one.")
    if study.surface is None:
        return Drawn(importances.why_not(len(study.complete), len(parameters)))
    chosen = [name for name, _ in zip(study.effects, range(MOST), strict=False)]
    some = (
        f" The {len(chosen)} most important parameters are shown."
        if len(parameters) > len(chosen)
        else ""
    )
    text = f"Where {study.metric} is good for two parameters together: yellow is best.{some}"
    method = (
        f"The mean of the model of {study.metric} over the other parameters. Points are the scored "
        "trials."
    )
    by_name = {parameter.name: parameter for parameter in parameters}
    pairs = combinations(chosen, 2)
    return Drawn(
        text,
        tuple(_contour(study, study.surface, by_name[a], by_name[b]) for a, b in pairs),
        method,
    )


def _contour(study: View, surface: Surface, across: Parameter, up: Parameter) -> Figure:
    x, y, z = heights(surface, across, up)
    names = f"{escaped(across.name)} %{{x}}<br>{escaped(up.name)} %{{y}}"
    fill = {
        "type": "contour",
        "x": shown(x),
        "y": shown(y),
        **_colours(z, surface.log, study.metric),
        "colorscale": SCALE,
        "reversescale": study.result.objective.goal_type is Goal.MINIMIZE,
        "contours": {"coloring": "fill"},
        "line": {"width": 0.5},
        "hovertemplate": f"{names}<br>%{{text}}<extra></extra>",
        "showlegend": False,
    }
    trials = [trial for trial, _ in study.complete][-500:]
    points = markers(
        shown(t.parameters[across.name] for t in trials),
        shown(t.parameters[up.name] for t in trials),  # type: ignore[arg-type]
        "trial",
        marker={"color": "#ffffff", "size": 6, "line": {"color": "#1b1f24", "width": 1}},
        customdata=[trial.number for trial in trials],
        hoverinfo="text",
        showlegend=False,
    )
    winner = study.result.best
    best = [trial for trial in trials if trial is winner]
    star = markers(
        shown(t.parameters[across.name] for t in best),
        shown(t.parameters[up.name] for t in best),  # type: ignore[arg-type]
        "best",
        marker={"color": GREEN, "size": 17, "symbol": "star", "opacity": 1}
        | {"line": {"color": "#ffffff", "width": 1.5}},
        customdata=[trial.number for trial in best],
        hoverinfo="text",
        showlegend=False,
    )
    return figure([fill, points, star], parameter_axis(across), parameter_axis(up), height=320)


def _colours(z: list[list[float]], log: bool, metric: str) -> Figure:
    """Return what the fill shows: the objective, or its logarithm with the objective as labels."""
    text = [[f"{value:.4g}" for value in row] for row in z]
    title = {"text": escaped(metric), "side": "right"}
    bar: Figure = {"thickness": 10, "outlinewidth": 0, "title": title}
    if not log:
        return {"z": [[float(cell) for cell in row] for row in text], "text": text, "colorbar": bar}
    logs = [[round(math.log10(value), 4) for value in row] for row in z]
    ticks = np.linspace(min(map(min, logs)), max(map(max, logs)), 5)
    bar |= {
        "tickvals": [float(tick) for tick in ticks],
        "ticktext": [f"{10**tick:.3g}" for tick in ticks],
    }
    return {"z": logs, "text": text, "colorbar": bar}


def heights(
    surface: Surface, across: Parameter, up: Parameter
) -> tuple[list[Value], list[Value], list[list[float]]]:
    """Return values of two parameters, and the objective at each pair: [up][across], the mean over the rest."""
    columns = surface.parameters.index(across), surface.parameters.index(up)
    (x, x_units), (y, y_units) = importance.grid(across, STEPS), importance.grid(up, STEPS)
    rest = importance.samples(len(surface.parameters), SAMPLES)  # [S, P]
    pairs = np.array([(a, b) for b in y_units for a in x_units])
    cube = np.repeat(rest[None], len(pairs), axis=0)  # [pairs, S, P]
    cube[:, :, columns[0]], cube[:, :, columns[1]] = pairs[:, 0, None], pairs[:, 1, None]
    mean = surface.mean(cube.reshape(-1, rest.shape[1])).reshape(len(pairs), -1).mean(axis=1)
    z = surface.objective(mean).reshape(len(y), len(x))
    return x, y, [[float(value) for value in row] for row in z]
