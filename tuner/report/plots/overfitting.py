"""Held-out against training score: the metric `X` next to `train_X` (docs/reference/metrics.md), where trials report both."""

from __future__ import annotations

from typing import Any

from tuner.analysis.view import TRAIN_PREFIX, View
from tuner.report.figure import AMBER, BLUE, GREEN, GREY, axis, figure, line, markers, rounded
from tuner.report.plots.drawn import Drawn
from tuner.result import Trial


def draw(study: View) -> Drawn:
    """Draw the scores of all trials against each other, and both curves of the best trial."""
    metric, other = study.metric, TRAIN_PREFIX + study.metric
    both = [
        (trial, value, trial.metrics[other])
        for trial, value in study.scored
        if other in trial.metrics
    ]
    if not both:
        return Drawn(f"No trial reports {other}, the {metric} against the training data.")
    held, train = rounded(value for _, value, _ in both), rounded(value for _, _, value in both)
    ends = [min(held + train), max(held + train)]
    hover = {"customdata": [trial.number for trial, _, _ in both], "hoverinfo": "text"}
    points = markers(train, held, "trial", **hover)
    diagonal = line(ends, ends, "equal", GREY, line={"width": 1, "dash": "dot"}, hoverinfo="skip")
    spread = [*held, *train]
    figures = [
        figure(
            [points, diagonal, *_star(study, both)],
            axis(other, spread),
            axis(metric, spread),
            height=320,
            showlegend=False,
        )
    ]
    best = study.result.best
    curves = [study.curve(best, name) for name in (metric, other)] if best else []
    if best and len(curves[0]) > 1 and len(curves[1]) > 1:
        traces = [
            line(list(range(1, len(curve) + 1)), rounded(curve), name, colour)
            for curve, name, colour in zip(curves, (metric, other), (BLUE, AMBER), strict=True)
        ]
        drawn = figure(
            traces,
            axis(f"report of trial {best.number}"),
            axis("", [*curves[0], *curves[1]]),
            height=320,
        )
        figures.append(drawn)
    second = " The second figure shows both scores of the best trial." if len(figures) > 1 else ""
    text = (
        f"Whether trials overfit: far from the dotted line, {metric} differs between held-out and "
        f"training data. {len(both)} trials report both.{second}"
    )
    return Drawn(text, tuple(figures))


def _star(study: View, both: list[tuple[Trial, float, float]]) -> list[dict[str, Any]]:
    """Return the mark of the best trial; empty if it does not report both scores."""
    best = study.result.best
    held = [each for each in both if each[0] is best]
    look = {"color": GREEN, "symbol": "star", "size": 17, "opacity": 1}
    return [
        markers([train], [value], "best", marker=look, customdata=[t.number], hoverinfo="text")
        for t, value, train in held
    ]
