"""The plots of the page: one module for each topic, and one table.

A plot is a pure function from a View to a Drawn: a sentence, and the figures for which there is
enough to plot. To add one, write a module with such a function and add a row to PLOTS. COMPARISONS
are drawn from several studies.

Optuna's visualisations are not used: they need a copy of every trial in an Optuna study, fix the
colours of a light page, and write one cell for each pair of distinct values into a contour plot,
four million for 2,000 trials.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tuner.analysis.view import View
from tuner.report.plots import (
    comparison,
    contour,
    cost,
    expected,
    history,
    importances,
    learning_curves,
    overfitting,
    parallel,
    slices,
    timeline,
)
from tuner.report.plots.drawn import Drawn

__all__ = ["COMPARISONS", "PLOTS", "Comparison", "Drawn", "Plot"]


@dataclass(frozen=True, slots=True)
class Plot:
    """A heading, and what is drawn below it."""

    heading: str
    draw: Callable[[View], Drawn]
    wide: bool = False  # takes the full width of the page


@dataclass(frozen=True, slots=True)
class Comparison:
    """A heading, and what is drawn below it from several studies."""

    heading: str
    draw: Callable[[Sequence[View]], Drawn]


PLOTS = (
    Plot("How the search went", history.draw),
    Plot("How much each parameter matters", importances.draw),
    Plot("Each parameter", slices.draw, wide=True),
    Plot("Pairs of parameters", contour.draw, wide=True),
    Plot("Trials through all parameters", parallel.draw, wide=True),
    Plot("Learning curves", learning_curves.draw),
    Plot("Are more trials worth it?", expected.draw),
    Plot("Score against training time", cost.draw),
    Plot("Held-out against training score", overfitting.draw, wide=True),
    Plot("When each trial ran", timeline.draw),
)
COMPARISONS = (
    Comparison("Best so far", comparison.histories),
    Comparison("Are more trials worth it?", comparison.expectations),
    Comparison("How much each parameter matters", comparison.importances),
)
