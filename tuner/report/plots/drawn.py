"""What a plot returns."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.report.figure import Figure


@dataclass(frozen=True, slots=True)
class Drawn:
    """The figures with what a reader wants to know about them; without figures, why there are none.

    Attributes:
        text: One or two sentences.
        figures: The figures.
        method: How the figures are computed, for those who ask.
    """

    text: str
    figures: tuple[Figure, ...] = ()
    method: str = ""


def nothing(metric: str) -> Drawn:
    """Return what every plot of the objective says without a scored trial."""
    return Drawn(f"No trial has a finite {metric} yet.")
