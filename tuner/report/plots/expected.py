"""The expected best against the number of trials (tuner.analysis.expected)."""

from __future__ import annotations

import numpy as np

from tuner.analysis.expected import MIN_TRIALS, expected_best
from tuner.analysis.view import View
from tuner.report.figure import GREEN, axis, band, figure, line, rounded
from tuner.report.plots.drawn import Drawn
from tuner.report.scale import objective, scale

METHOD = (
    "The expected best of k trials that are drawn from the scored ones (Dodge et al. 2019, arXiv "
    "1909.03004), with the interval of 80 % of bootstrap repetitions. The curve treats trials as "
    "independent: a sampler that learns needs fewer."
)


def draw(study: View) -> Drawn:
    """Draw the curve and its band."""
    values, metric = [value for _, value in study.scored], study.metric
    if len(values) < MIN_TRIALS:
        return Drawn(f"This curve needs {MIN_TRIALS} scored trials, and there are {len(values)}.")
    goal = study.result.objective.goal_type
    counts, (mean, low, high) = expected_best(values, goal)
    half = float(np.interp(len(values) / 2, counts, mean))
    gain = abs(half - mean[-1]) / (abs(half) or 1.0)
    text = (
        f"The best {metric} that a search of so many trials reaches on average. The second half "
        f"of the {len(values)} scored trials changes it by {gain:.1%}."
    )
    on = scale(study)
    traces = [
        band(
            counts,
            rounded(map(on.clip, low)),
            rounded(map(on.clip, high)),
            "80 % interval",
        ),
        line(counts, rounded(map(on.clip, mean)), "expected best", GREEN),
    ]
    drawn = figure(traces, axis("number of trials"), on.axis(f"best {metric}"), **objective(on))
    return Drawn(text, (drawn,), METHOD)
