"""What a plot returns."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.report.figure import Figure


@dataclass(frozen=True, slots=True)
class Drawn:
    """The sentence under a heading, and the figures; none where the sentence says why."""

    text: str
    figures: tuple[Figure, ...] = ()


def nothing(metric: str) -> Drawn:
    """Return what every plot of the objective says without a scored trial."""
    return Drawn(f"No trial has a finite {metric} yet, so there is nothing to plot.")
