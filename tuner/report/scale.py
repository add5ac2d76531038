"""The objective's axis, which all plots of a study share, and the marks of its trials."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuner.analysis.view import View
from tuner.report.figure import (
    AMBER,
    BLUE,
    DECADE,
    GREEN,
    RED,
    VIOLET,
    Axis,
    axis,
    markers,
    rounded,
)
from tuner.result import Goal, Trial, TrialState
from tuner.space import Value

FENCE = 3.0  # quartile ranges beyond the quartile at which a worse value is an outlier (Tukey 1977)
ENOUGH = 5  # values from which on there can be an outlier
SHARE = 0.1  # of the values may be outliers; more are a part of the distribution
HEAD, FOOT = 0.06, 0.12  # free shares of the axis above and below the values
FLOOR = 0.04  # height of the marks of trials without a value, as a share of the axis
UNSCORED = (TrialState.FAILED, TrialState.METRICS_UNAVAILABLE, TrialState.KILLED)


@dataclass(frozen=True, slots=True)
class Scale:
    """The range of the objective in plots: that of the values without the outliers.

    Attributes:
        low, high: The values at the ends of the axis.
        least, most: The smallest and the largest value that is not an outlier.
        log: The axis is logarithmic.
        positive: All values are positive, so the axis can be logarithmic.
    """

    low: float
    high: float
    least: float
    most: float
    log: bool
    positive: bool

    def axis(self, title: str) -> Axis:
        """Return the axis in plotly's terms: a logarithmic range is given in decades."""
        ends = [self._at(self.low), self._at(self.high)]
        shape: Axis = {"range": [float(f"{end:.6g}") for end in ends]}
        return axis(title) | shape | ({"type": "log"} if self.log else {})

    def clip(self, value: float) -> float:
        """Return the value, or the end of the axis beyond which it lies."""
        return min(max(value, self.low), self.high)

    def inside(self, value: float) -> bool:
        """Return whether the value is on the axis."""
        return self.low <= value <= self.high

    def share(self, value: float) -> float:
        """Return where a value is between the smallest and the largest one, from 0 to 1."""
        low, high = self._at(self.least), self._at(self.most)
        place = self._at(min(max(value, self.least), self.most))
        return (place - low) / (high - low) if high > low else 0.5

    @property
    def floor(self) -> float:
        """The height of the marks of trials that have no value."""
        low, high = self._at(self.low), self._at(self.high)
        place = low + FLOOR * (high - low)
        return float(10**place) if self.log else place

    def _at(self, value: float) -> float:
        return math.log10(value) if self.log else value


def scale(study: View) -> Scale:
    """Return the scale of a study's objective. Outliers are cut off at its worse end only."""
    goal = study.result.objective.goal_type
    return of([value for _, value in study.scored], goal)


def of(values: Sequence[float], goal: Goal) -> Scale:
    """Return the scale of some values."""
    if not values:
        return Scale(0.0, 1.0, 0.0, 1.0, False, False)
    positive = min(values) > 0
    at = np.sort(np.log10(values) if positive else np.asarray(values, dtype=np.float64))
    kept = _without_outliers(at if goal is Goal.MINIMIZE else -at[::-1])
    kept = kept if goal is Goal.MINIMIZE else -kept[::-1]
    least, most = (float(10**end) if positive else float(end) for end in (kept[0], kept[-1]))
    log = positive and most > DECADE * least
    low, high = (math.log10(least), math.log10(most)) if log else (least, most)
    span = high - low or (0.2 if log else 0.2 * abs(high) or 1.0)
    low, high = low - FOOT * span, high + HEAD * span
    ends = (10**low, 10**high) if log else (low, high)
    return Scale(*ends, least, most, log, positive)


def _without_outliers(at: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, Any]:
    """Return sorted values without those far above the others; all of them if there are many."""
    if len(at) < ENOUGH:
        return at
    first, third = np.quantile(at, [0.25, 0.75])
    kept = at[at <= third + FENCE * (third - first)]
    return kept if third > first and len(kept) >= (1 - SHARE) * len(at) else at


def outside(study: View) -> str:
    """Return the sentence about trials that are not on the axis; "" without one."""
    drawn = scale(study)
    numbers = [str(trial.number) for trial, value in study.scored if not drawn.inside(value)]
    if not numbers:
        return ""
    listed = ", ".join(numbers[:6]) + (f" and {len(numbers) - 6} more" if len(numbers) > 6 else "")
    which = f"Trial {listed} is" if len(numbers) == 1 else f"Trials {listed} are"
    return f" {which} outside the axis: see the arrow{'s' if len(numbers) > 1 else ''}."


def points(
    study: View,
    scored: Sequence[tuple[Trial, float]],
    x: Callable[[Trial], Value],
    *,
    unscored: bool = True,
    fade: bool = False,
) -> list[dict[str, Any]]:
    """Return the traces of trials: one for each kind of mark, the best trial on top.

    Args:
        study: The study of the trials.
        scored: The trials, with the value at which each is drawn.
        x: The value of a trial on the other axis.
        unscored: Mark the failed trials at the lower end of the axis.
        fade: Draw early trials fainter than late ones.
    """
    on, best, baseline = scale(study), study.result.best, study.result.baseline_trial
    groups: dict[str, list[tuple[Trial, float]]] = {}
    for trial, value in scored:
        groups.setdefault(_kind(trial, value, on, best, baseline), []).append((trial, value))
    looks: dict[str, dict[str, Any]] = {
        "trial": {"color": BLUE},
        "stopped early": {"color": AMBER, "symbol": "diamond"},
        "above the axis": {"color": AMBER, "symbol": "triangle-up", "size": 11},
        "below the axis": {"color": AMBER, "symbol": "triangle-down", "size": 11},
        "baseline": {"color": VIOLET, "symbol": "square", "size": 11, "opacity": 1},
        "best": {"color": GREEN, "symbol": "star", "size": 17, "opacity": 1},
    }
    failed = [t for t in study.result.trials if unscored and t.state in UNSCORED and _has(t, x)]
    traces = []
    if failed:
        look = {"color": RED, "symbol": "x", "size": 8, "opacity": 0.9}
        at = [float(f"{on.floor:.6g}")] * len(failed)
        trace = _marks("failed", failed, at, x, look) | {"meta": "floor"}
        traces.append(trace)
    for name, mark in looks.items():
        if chosen := groups.get(name):
            trials, values = [t for t, _ in chosen], rounded(on.clip(value) for _, value in chosen)
            look = mark
            if fade and name == "trial":
                last = max(1, study.result.trials[-1].number)
                look = mark | {"opacity": [round(0.3 + 0.6 * t.number / last, 2) for t in trials]}
            traces.append(_marks(name, trials, values, x, look) | {"cliponaxis": False})
    return traces


def _kind(trial: Trial, value: float, on: Scale, best: Trial | None, baseline: Trial | None) -> str:
    if best is not None and trial.number == best.number:
        return "best"
    if not on.inside(value):
        return "above the axis" if value > on.high else "below the axis"
    if baseline is not None and trial.number == baseline.number:
        return "baseline"
    return "stopped early" if trial.state is TrialState.EARLY_STOPPED else "trial"


def _has(trial: Trial, x: Callable[[Trial], Value]) -> bool:
    try:
        x(trial)
    except KeyError:
        return False
    return True


def _marks(
    name: str,
    trials: Sequence[Trial],
    y: Sequence[float],
    x: Callable[[Trial], Value],
    look: dict[str, Any],
) -> dict[str, Any]:
    """Return one trace; the page adds the text that shows below the mouse, from its table."""
    numbers = [trial.number for trial in trials]
    across = [x(trial) for trial in trials]
    return markers(across, y, name, marker=look, customdata=numbers, hoverinfo="text")


def objective(on: Scale, name: str = "yaxis") -> dict[str, Any]:
    """Return the setting of a layout that tells the page which axis can change its scale."""
    held = {"objective": name, "least": float(f"{on.least:.6g}"), "positive": on.positive}
    return {"meta": held}
