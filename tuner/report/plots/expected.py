"""The expected best against the number of trials (tuner.analysis.expected)."""

from __future__ import annotations

import numpy as np

from tuner.analysis.expected import MIN_TRIALS, expected_best
from tuner.analysis.view import View
from tuner.report.figure import GREEN, axis, band, figure, line, rounded
from tuner.report.plots.drawn import Drawn


def draw(study: View) -> Drawn:
    """Draw the curve and its band."""
    values, metric = [value for _, value in study.scored], study.metric
    if len(values) < MIN_TRIALS:
        return Drawn(
            f"{len(values)} scored trials are too few for this curve: it needs {MIN_TRIALS}."
        )
    goal = study.result.objective.goal_type
    counts, (mean, low, high) = expected_best(values, goal)
    half = float(np.interp(len(values) / 2, counts, mean))
    gain = abs(half - mean[-1]) / (abs(half) or 1.0)
    text = (
        f"The {metric} to expect of the best of k such trials, with the interval of 80 % of bootstrap repetitions. The "
        f"second half of the {len(values)} scored trials changes it by {gain:.1%}. The curve treats trials as "
        "independent: a sampler that learns needs fewer."
    )
    traces = [
        band(counts, rounded(low), rounded(high), "80 % interval"),
        line(counts, rounded(mean), "expected best"),
    ]
    traces[1]["line"]["color"] = GREEN
    return Drawn(text, (figure(traces, axis("number of trials"), axis(f"best {metric}", low)),))
