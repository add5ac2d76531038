"""Parallel coordinates: a line for each trial through its parameters to its objective.

Drawn as ordinary lines. Plotly's own `parcoords` needs WebGL and compiles code at run time, which
the page's content security policy forbids.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tuner.analysis.view import View, sample
from tuner.report.figure import (
    AMBER,
    BLUE,
    GREEN,
    GREY,
    RED,
    TEAL,
    Figure,
    axis,
    escaped,
    figure,
    is_log,
    line,
)
from tuner.report.plots.drawn import Drawn
from tuner.report.scale import scale
from tuner.result import Trial
from tuner.space import Double, Int, Parameter, Value

MOST = 300  # lines: the best half of them, and a sample of the rest
# from the best fifth to the worst
CLASSES = (BLUE, TEAL, GREY, AMBER, RED)
STRENGTH = (0.9, 0.6, 0.35, 0.35, 0.35)


def draw(study: View) -> Drawn:
    """Draw the lines in five classes of the objective, the best on top."""
    parameters = study.experiment.parameters
    order = [
        (trial, value)
        for trial, value in study.ranked
        if all(p.name in trial.parameters for p in parameters)
    ]
    if len(order) < 2:
        return Drawn("Lines can be compared from two scored trials on.")
    chosen = sample(order, MOST)
    some = (
        f" {len(chosen)} of {len(order)} trials are drawn: the best, and a sample of the rest."
        if (len(chosen) < len(order))
        else ""
    )
    text = (
        "Which values good trials share: a line for each trial, thick green for the best one, blue "
        f"for the best fifth by {study.metric}, red for the worst.{some}"
    )
    return Drawn(text, (_figure(study, parameters, chosen),))


def _figure(
    study: View, parameters: Sequence[Parameter], chosen: Sequence[tuple[Trial, float]]
) -> Figure:
    on = scale(study)
    low, high, log = on.least, on.most, on.log
    places = range(len(parameters) + 1)
    traces = []
    for index in reversed(range(len(CLASSES))):
        inside = chosen[
            len(chosen) * index // len(CLASSES) : len(chosen) * (index + 1) // len(CLASSES)
        ]
        x: list[int | None] = []
        y: list[float | None] = []
        for trial, value in inside:
            heights = [
                height(parameter, trial.parameters[parameter.name]) for parameter in parameters
            ]
            x += [*places, None]
            y += [
                *(round(h, 4) for h in heights),
                round(_between(on.clip(value), low, high, log), 4),
                None,
            ]
        if x:
            look = {"width": 1.2 if index else 2}
            traces.append(
                line(
                    x,
                    y,
                    f"fifth {index + 1}",
                    CLASSES[index],
                    line=look,
                    opacity=STRENGTH[index],
                    hoverinfo="skip",
                )
            )
    if best := study.result.best:
        steps = [height(p, best.parameters[p.name]) for p in parameters]
        end = _between(best.metrics[study.metric], low, high, log)
        top = [round(step, 4) for step in (*steps, end)]
        traces.append(
            line(list(places), top, "best", GREEN, line={"width": 4}, hoverinfo="skip")
            | {"mode": "lines+markers", "marker": {"symbol": "star", "size": 11}}
        )
    names = [
        escaped(name) for name in (*(parameter.name for parameter in parameters), study.metric)
    ]
    x_axis = axis(
        "",
        tickvals=list(places),
        ticktext=names,
        range=[-0.4, len(parameters) + 0.4],
        showgrid=True,
    )
    y_axis = axis("", visible=False, range=[-0.06, 1.06])
    drawn = figure(traces, x_axis, y_axis, height=360, showlegend=False)
    ends = [
        *((_end(p, 0), _end(p, 1)) for p in parameters),
        (f"{low:.4g}", f"{high:.4g}"),
    ]
    drawn["layout"]["margin"] = {"l": 14, "r": 14, "t": 10, "b": 46}
    drawn["layout"]["annotations"] = [
        {
            "x": place,
            "y": top,
            "text": escaped(ends[place][top]),
            "showarrow": False,
            "yshift": 12 if top else -12,
        }
        for place in places
        for top in (0, 1)
    ]
    return drawn


def height(parameter: Parameter, value: Value) -> float:
    """Return where a value is on its axis, from 0 to 1; choices at equal distances."""
    if isinstance(parameter, Double | Int):
        return _between(
            float(value), float(parameter.low), float(parameter.high), is_log(parameter)
        )
    choices = parameter.choices
    return (
        choices.index(str(value)) / (len(choices) - 1)
        if str(value) in choices and len(choices) > 1
        else 0.5
    )


def _between(value: float, low: float, high: float, log: bool) -> float:
    if log and value > 0:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.5


def _end(parameter: Parameter, top: int) -> str:
    if isinstance(parameter, Double | Int):
        return f"{(parameter.low, parameter.high)[top]:.4g}"
    return (parameter.choices[0], parameter.choices[-1])[top]
