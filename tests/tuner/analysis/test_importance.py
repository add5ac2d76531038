"""Parameter importances: the model's gradient, known indices, intervals, and what cannot be said."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tuner.samples import PARAMETERS, experiment, search
from tuner.analysis.importance import total_effects
from tuner.report import View
from tuner.space import Categorical, Discrete, Double, Int


def test_finds_known_indices() -> None:
    """f = 1 + a + b c / 2 on the unit cube, centred inputs: variances 1/12, and 1/4 * 1/144."""
    random = np.random.default_rng(1)
    parameters = [Double(name, -0.5, 0.5) for name in "abc"]
    points = [{name: float(random.uniform(-0.5, 0.5)) for name in "abc"} for _ in range(120)]
    # negative, so not taken in logarithm
    values = [p["a"] + 4 * p["b"] * p["c"] - 10 for p in points]
    own, shared = 1 / 12, 16 / 144
    effects = total_effects(parameters, points, values)
    assert effects["a"] == pytest.approx(own / (own + shared), abs=0.03)
    assert effects["b"] == pytest.approx(shared / (own + shared), abs=0.03)
    assert effects["c"] == pytest.approx(shared / (own + shared), abs=0.03)


def test_ranks_important_parameter_first() -> None:
    """18 of 20 is the demand; a chooser at chance would reach 5."""
    first = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        points = [
            {
                "lr": float(10 ** random.uniform(-5, -2)),
                "bs": int(random.integers(32, 129)),
                "loss": str(random.choice(PARAMETERS[2].choices)),
                "beta1": str(random.choice(PARAMETERS[3].choices)),
            }
            for _ in range(10)
        ]
        noise = 0.17 * random.standard_normal(10)
        values = [
            float(np.exp(1.2 * abs(np.log10(p["lr"]) + 3.3) + e))
            for p, e in zip(points, noise, strict=True)
        ]
        first += next(iter(total_effects(PARAMETERS, points, values)), "") == "lr"
    assert first >= 18


def test_no_effects_without_evidence() -> None:
    point = {"a": 0.5}
    parameters = [Double("a", 0, 1)]
    assert total_effects(parameters, [point] * 3, [1.0, 2.0, 3.0]) == {}
    assert total_effects(parameters, [point] * 9, [2.0] * 9) == {}
    assert total_effects([], [{}] * 9, list(range(9))) == {}
    # one point only: all is noise
    assert total_effects(parameters, [point] * 9, [1.0, 2.0, 3.0] * 3) == {}


def test_accepts_values_outside_the_range() -> None:
    parameters = [
        Int("n", 1, 1),
        Categorical("c", ("x",)),
        Discrete("d", ("1", "2")),
        Double("a", 0, 1),
    ]
    points = [{"n": 1, "c": "x", "d": "12"[i % 2], "a": i / 5} for i in range(9)]
    effects = total_effects(parameters, points, [float(1 + i) for i in range(9)])
    assert all(np.isfinite(effect) for effect in effects.values())
    assert next(iter(effects)) == "a"


def test_intervals_enclose_shares_that_sum_to_one() -> None:
    effects = View(search(30), experiment(["x"])).effects
    assert sum(each.value for each in effects.values()) == pytest.approx(1)
    assert all(0 <= each.low <= each.value <= each.high <= 1 for each in effects.values())
    few, many = (
        View(search(12), experiment(["x"])).effects["lr"],
        View(search(200), experiment(["x"])).effects["lr"],
    )
    assert many.high - many.low < (few.high - few.low) / 2


def test_needs_more_trials_than_parameters() -> None:
    assert View(search(4, failing=99), experiment(["x"])).effects == {}
    assert View(search(5, failing=99), experiment(["x"])).effects != {}
