"""Held-out against training score: the metric `X` next to `train_X` (docs/reference/metrics.md), where trials report both."""

from __future__ import annotations

from tuner.analysis.view import View
from tuner.report.figure import AMBER, BLUE, GREY, axis, figure, line, markers, rounded
from tuner.report.plots.drawn import Drawn

PREFIX = "train_"


def draw(study: View) -> Drawn:
    """Draw the scores of all trials against each other, and both curves of the best trial."""
    metric, other = study.metric, PREFIX + study.metric
    both = [
        (trial, value, trial.metrics[other])
        for trial, value in study.scored
        if other in trial.metrics
    ]
    if not both:
        return Drawn(f"No trial reports {other}, the {metric} against the training data.")
    held, train = rounded(value for _, value, _ in both), rounded(value for _, _, value in both)
    ends = [min(held + train), max(held + train)]
    hover = {"customdata": [trial.number for trial, _, _ in both],
             "hovertemplate": "trial %{customdata}<br>%{x} %{y}<extra></extra>"}  # fmt: skip
    points = markers(train, held, "trial", **hover)
    diagonal = line(ends, ends, "equal", GREY, line={"width": 1, "dash": "dot"}, hoverinfo="skip")
    spread = [*held, *train]
    figures = [
        figure(
            [points, diagonal],
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
        f"A trial far above the dotted line has a worse {metric} on held-out images than on training images: it "
        f"overfits. n = {len(both)}.{second}"
    )
    return Drawn(text, tuple(figures))
