"""The early-stopping rules, and how their thresholds fit into a label."""

from __future__ import annotations

import random
import re

import pytest

from tuner.experiment.early_stopping import LONGEST_LABEL, Rules
from tuner.result import Goal, Objective

DOWN, UP = Objective("fd", Goal.MINIMIZE), Objective("fd", Goal.MAXIMIZE)
# of Kubernetes (validation.go, LabelValueFmt)
LABEL_VALUE = "[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?"
CURVES = [(9.0, 4.0, 3.0, 2.0), (9.0, 5.0), (8.0, 6.0, 5.0, 4.0), (9.0, 8.0, 3.0, 2.5)]


def test_factors_compare_with_the_best_so_far() -> None:
    rule = Rules(DOWN, factors=((2, 1.5), (4, 1.2)))
    cuts = rule.cuts(4, CURVES, CURVES)
    assert cuts == [(2, 6.0), (4, 2.4)]
    assert rule.label(cuts) == "2gt6_4gt2.4"
    assert rule.cuts(2, CURVES[:2], CURVES[:2]) == []  # too few to compare with
    assert rule.stop_at(cuts, (9.0, 6.1, 1.0, 1.0)) == 2
    assert rule.stop_at(cuts, (9.0, 6.0, 3.0, 2.5)) == 4
    assert rule.stop_at(cuts, (9.0, 6.0, 9.0, 2.4)) is None


def test_medianstop_takes_the_median_of_means() -> None:
    rule = Rules(UP, start_step=2)
    cuts = rule.cuts(3, [], [(1.0, 3.0, 9.0), (4.0, 6.0), (100.0,)])
    assert cuts == [(2, 5.0)]
    assert rule.label(cuts) == "2lt5"
    assert rule.stop_at(cuts, (4.0, 4.9, 8.0)) == 2
    assert rule.stop_at(cuts, (5.0, 1.0, 1.0)) is None


@pytest.mark.parametrize("objective", [DOWN, UP])
def test_threshold_is_rounded_in_the_trial_s_favour(objective: Objective) -> None:
    rng = random.Random(1)
    for _ in range(200):
        values = [rng.uniform(-1, 1) * 10 ** rng.randint(-12, 12) for _ in range(3)]
        rule = Rules(objective, start_step=1)
        [(_, threshold)] = rule.cuts(3, [], [(value,) for value in values])
        median = sorted(values)[1]
        assert rule.stop_at([(1, threshold)], (median,)) is None
        assert threshold == pytest.approx(median, rel=1e-5)
        assert re.fullmatch(LABEL_VALUE, rule.label([(1, threshold)]))
        assert float(rule.label([(1, threshold)])[3:]) == threshold


@pytest.mark.parametrize(("steps", "digits", "kept"), [(5, 6, 5), (6, 4, 6), (7, 3, 7), (12, 3, 7)])
def test_long_label_loses_digits_then_reports(steps: int, digits: int, kept: int) -> None:
    rule = Rules(DOWN, factors=tuple((n, 1.1111111) for n in range(1, steps + 1)))
    curve = tuple(0.7777777777 - n / 1000 for n in range(steps))
    cuts = rule.cuts(3, [curve] * 3, [curve] * 3)
    label = rule.label(cuts)
    assert len(label) <= LONGEST_LABEL
    assert [step for step, _ in cuts] == list(range(1, kept + 1))
    assert len(label.split("_")[0]) == len("1gt0.") + digits
