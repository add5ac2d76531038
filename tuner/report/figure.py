"""A plotly figure as plain data, and the pieces that several plots share.

Figures are dicts in plotly's JSON schema (https://plotly.com/javascript/reference), which the page
passes to plotly.js. They need no plotly in Python, which takes most of a second to import and
validates each value. A test validates them. Colours of text and lines are set by the page, which
knows whether it is light or dark (assets/page.js).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from tuner.analysis.importance import LOG_SCALES
from tuner.space import Categorical, Discrete, Double, Int, Parameter, Value

Figure: TypeAlias = dict[str, Any]
Axis: TypeAlias = dict[str, Any]
BLUE, GREEN, AMBER, RED, VIOLET, GREY = (
    "#4184e4",
    "#2da44e",
    "#c77c02",
    "#e5534b",
    "#986ee2",
    "#8b949e",
)
PALETTE = (BLUE, AMBER, GREEN, VIOLET, RED, "#1f9e9e", "#c96198", GREY)
# from good to bad
SCALE = [[0.0, "#0d3b8c"], [0.35, "#4184e4"], [0.7, "#9ecbff"], [1.0, "#f2c46d"]]


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
    """Return a numeric axis; logarithmic where all `values` are positive and span more than a decade."""
    held = list(values)
    log = bool(held) and min(held) > 0 and max(held) > 10 * min(held)
    scale = {"type": "log", "dtick": "D2" if max(held) < 1000 * min(held) else 1} if log else {}
    plain = {"exponentformat": "e"}  # plotly would write 0.0001 as 100µ
    return {"title": {"text": escaped(title)}, "automargin": True} | plain | scale | settings


def parameter_axis(parameter: Parameter) -> Axis:
    """Return the axis of one parameter: as the manifest distributes it, choices in the manifest's order."""
    if isinstance(parameter, Categorical | Discrete):
        choices = [escaped(choice) for choice in parameter.choices]
        return axis(parameter.name, type="category", categoryorder="array", categoryarray=choices)
    return axis(parameter.name) | ({"type": "log"} if is_log(parameter) else {})


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
    look = {"color": colour, "size": 7 if len(x) < 300 else 4, "opacity": 0.8} | settings.pop(
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
