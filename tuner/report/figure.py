"""A plotly figure as plain data, and the pieces that several plots share.

Figures are dicts in plotly's JSON schema (https://plotly.com/javascript/reference), which the page
passes to plotly.js. They need no plotly in Python, which takes most of a second to import and
validates each value. A test validates them. Colours of text and lines are set by the page, which
knows whether it is light or dark (assets/page.js).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from tuner.analysis.importance import LOG_SCALES
from tuner.space import Categorical, Discrete, Double, Int, Parameter, Value

Figure: TypeAlias = dict[str, Any]
Axis: TypeAlias = dict[str, Any]
DECADE = 10.0  # factor between the ends of an axis above which it is logarithmic
PAD = 0.05  # share of the range that is free at each end of an axis
FEW_INTEGERS = 12  # up to which each value of an integer parameter has its tick
# Colours for a light and a dark page: at least 3:1 against both (WCAG 1.4.11), and distinct to
# colour-blind readers together with the marks, which differ in shape.
BLUE, GREEN, AMBER, RED = "#1f77c9", "#1a8f5c", "#b07400", "#d1495b"
VIOLET, GREY, TEAL, PINK = "#a35fc0", "#7d8590", "#00889a", "#b5659a"
PALETTE = (BLUE, AMBER, GREEN, VIOLET, RED, TEAL, PINK, GREY)
SCALE = "Cividis"  # from blue to yellow in even steps of lightness, for all kinds of colour vision


def figure(
    data: Sequence[dict[str, Any]], x: Axis, y: Axis, *, height: int = 340, **layout: Any
) -> Figure:
    """Return the figure of some traces; `layout` holds further settings of plotly's layout."""
    shown = sum(trace.get("showlegend", True) for trace in data) > 1
    settings = {
        "height": height,
        "margin": {"l": 58, "r": 14, "t": 30 if shown else 10, "b": 46},
        "xaxis": x,
        "yaxis": y,
        "showlegend": shown,
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0},
        "hovermode": "closest",
    }
    return {"data": list(data), "layout": settings | layout}


def axis(title: str, values: Iterable[float] = (), **settings: Any) -> Axis:
    """Return a numeric axis; logarithmic if all `values` are positive and span over a decade.

    The page sets the ticks of a logarithmic axis from its range.
    """
    held = list(values)
    plain = {"exponentformat": "e"}  # plotly would write 0.0001 as 100µ
    scale: Axis = {}
    if held and min(held) > 0 and max(held) > DECADE * min(held):
        low, high = math.log10(min(held)), math.log10(max(held))
        pad = PAD * (high - low)
        scale = {"type": "log", "range": [round(low - pad, 4), round(high + pad, 4)]}
    return {"title": {"text": escaped(title)}, "automargin": True} | plain | scale | settings


def parameter_axis(parameter: Parameter) -> Axis:
    """Return the axis of one parameter: as the manifest distributes it, choices in the manifest's order."""
    if isinstance(parameter, Categorical | Discrete):
        choices = [escaped(choice) for choice in parameter.choices]
        return axis(parameter.name, type="category", categoryorder="array", categoryarray=choices)
    low, high = float(parameter.low), float(parameter.high)
    found = axis(parameter.name)
    if is_log(parameter):
        low, high = math.log10(low), math.log10(high)
        found["type"] = "log"
    pad = PAD * (high - low) or 0.5
    found["range"] = [round(low - pad, 6), round(high + pad, 6)]
    if isinstance(parameter, Int) and "type" not in found and high - low <= FEW_INTEGERS:
        found["dtick"] = 1
    return found


def is_log(parameter: Parameter) -> bool:
    """Return whether the parameter is searched on a logarithmic scale."""
    return (
        isinstance(parameter, Double | Int)
        and parameter.distribution in LOG_SCALES
        and parameter.low > 0
    )


def rounded(values: Iterable[float]) -> list[float]:
    """Return the values to six significant digits, which halves the size of the page."""
    return [float(f"{value:.6g}") for value in values]


def shown(values: Iterable[Value]) -> list[Value]:
    """Return parameter values as a plot takes them: numbers rounded, choices as text."""
    return [
        float(f"{value:.6g}")
        if isinstance(value, float)
        else escaped(value)
        if isinstance(value, str)
        else value
        for value in values
    ]


def escaped(text: str) -> str:
    """Return a text that plotly shows as it is: it reads a few HTML elements, links among them."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def markers(
    x: Sequence[Any], y: Sequence[float], name: str, colour: Any = BLUE, **settings: Any
) -> dict[str, Any]:
    """Return a trace of points."""
    look = {"color": colour, "size": 8 if len(x) < 300 else 5, "opacity": 0.8} | settings.pop(
        "marker", {}
    )
    return {
        "type": "scatter",
        "mode": "markers",
        "x": list(x),
        "y": list(y),
        "name": name,
        "marker": look,
    } | settings


def line(
    x: Sequence[Any], y: Sequence[Any], name: str, colour: str = GREEN, **settings: Any
) -> dict[str, Any]:
    """Return a trace that joins points."""
    look = {"color": colour, "width": 2} | settings.pop("line", {})
    return {
        "type": "scatter",
        "mode": "lines",
        "x": list(x),
        "y": list(y),
        "name": name,
        "line": look,
    } | settings


def band(
    x: Sequence[float], low: Sequence[float], high: Sequence[float], name: str, colour: str = GREEN
) -> dict[str, Any]:
    """Return a trace that fills the area between two curves."""
    outline = {"x": [*x, *reversed(x)], "y": [*high, *reversed(low)]}
    look = {
        "fill": "toself",
        "fillcolor": colour,
        "opacity": 0.22,
        "line": {"width": 0},
        "hoverinfo": "skip",
    }
    return {"type": "scatter", "mode": "lines", "name": name} | outline | look
