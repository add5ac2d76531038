"""Which of a program's metrics a search optimises, and why: held-out data first, losses last.

What the names do not settle is an error that lists the candidates. A wrong guess would tune the
wrong thing without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tuner.errors import UnsupportedError
from tuner.metrics.names import (
    BEST,
    HIGHER,
    LOSS,
    LOWER,
    Role,
    is_counter,
    is_loss,
    is_score,
    slug,
    words,
)
from tuner.metrics.reports import Report
from tuner.result import Goal


@dataclass(frozen=True, slots=True)
class Choice:
    """The objective, the other metrics, and why it was chosen ("" where it is the only one)."""

    report: Report
    others: tuple[Report, ...]
    why: str = ""


def choose(
    reports: Sequence[Report], metric: str = "", *, sections: Callable[[str], bool]
) -> Choice:
    """Return the objective of these metrics.

    Args:
        reports: What the program prints.
        metric: The metric that the user names, as it is printed or as `test_accuracy`; "" for none.
        sections: Whether a name is below a heading of training data and one of held-out data.

    Raises:
        UnsupportedError: The metric is not printed, or several metrics could be the objective.
    """
    able = candidates(reports)
    if metric:
        named = [each for each in reports if metric in (each.name, each.shown)]
        named = named or [each for each in reports if slug(each.shown) == slug(metric)]
        if not named:
            raise UnsupportedError(
                f"the program prints no metric {metric!r}; it prints {_listed(able or reports)}: "
                "name one with --metric"
            )
        chosen, why = _single(named), ""
    elif not able:
        raise UnsupportedError(
            f"the program prints only counts, settings and times ({_listed(reports)}). Print the "
            "score of the model as name=value, or name one of these with --metric"
        )
    else:
        chosen, why = _best(able)
    if sections(chosen.name) and not chosen.label:
        raise UnsupportedError(
            f"{chosen.name!r} is printed below a heading of training data and one of held-out data, "
            "and metrics are read line by line. Print two names, as in test_accuracy=0.9"
        )
    others = {each.name: each for each in able if each.name != chosen.name}
    return Choice(chosen, tuple(others.values()), why)


def candidates(reports: Sequence[Report]) -> list[Report]:
    """Return possible objectives: scores, or else values that change or are no counts."""
    if scores := [each for each in reports if is_score(each.name)]:
        return scores
    return [
        each
        for each in reports
        if not is_counter(each.name) and (each.equals or not each.whole or len(each.values) > 1)
    ]


def goal_of(name: str) -> Goal | None:
    """Return which way a metric is better, by its name; None where the name does not say it."""
    its = words(name)
    if its & (LOWER | LOSS):
        return Goal.MINIMIZE
    return Goal.MAXIMIZE if its & HIGHER else None


def _best(able: Sequence[Report]) -> tuple[Report, str]:
    """Return the only candidate that is left after each rule, and the sentences of the rules."""
    left, why = list(able), []
    rules: tuple[tuple[Callable[[Report], bool], str], ...] = (
        (lambda one: one.data.held_out, "it is measured on held-out data"),
        (lambda one: one.data is not Role.TRAINING, "the others are measured on training data"),
        (lambda one: not is_loss(one.name), "losses compare only where the loss stays the same"),
        (lambda one: one.data is Role.VALIDATION, "test data is kept for the end"),
        (lambda one: not words(one.name) & BEST, "the others repeat their best value"),
    )
    for rule, sentence in rules:
        kept = [each for each in left if rule(each)]
        if 0 < len(kept) < len(left):
            left = kept
            why.append(sentence)
    chosen = _single(left)
    if chosen.data is Role.TRAINING:
        why = [
            "nothing is measured on held-out data, so the search may choose a model that overfits"
        ]
    return chosen, "; ".join(why)


def _single(left: Sequence[Report]) -> Report:
    if len(left) > 1:
        raise UnsupportedError(
            f"several metrics of the program could be the objective: {_listed(left)}. Choose one, for "
            f"example with --metric {slug(left[0].shown)}"
        )
    return left[0]


def _listed(reports: Sequence[Report]) -> str:
    return ", ".join(f"{slug(each.shown)} ({each.line[:60]!r})" for each in reports[:12])
