"""bayesianoptimization: its start, what its model receives, and what it needs."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuner import gp
from tuner.samplers import Past, Search
from tuner.samplers.base import proposal_of
from tuner.samplers.bayesian import MOST_TRIALS, START_UP, Bayesian, fitted
from tuner.samplers.transform import dimension
from tuner.space import Categorical, Discrete, Distribution, Double, Int, Parameter

ROOT = Path(__file__).resolve().parents[3]
LR = Double("lr", 1e-5, 1e-2, distribution=Distribution.LOG_UNIFORM)
EVERY_KIND: tuple[Parameter, ...] = (
    LR,
    Double("momentum", 0.0, 1.0),
    Double("step", 0.0, 1.0, step=0.25),
    Double("normal", -1.0, 1.0, distribution=Distribution.NORMAL),
    Int("units", 1, 1000, distribution=Distribution.LOG_UNIFORM),
    Int("layers", 1, 4),
    Discrete("bs", ("32", "64", "128")),
    Categorical("loss", ("ns", "hinge", "lsgan")),
    Categorical("only", ("one",)),
    Double("fixed", 2.0, 2.0),
)
WITHOUT = """
import sys
for name in ("torch", "torchvision", "optuna", "kubernetes", "kubeflow"):
    sys.modules[name] = None  # `import name` raises ModuleNotFoundError
import tuner
from tests.tuner.experiments import experiment
from tests.tuner.samplers.test_samplers import played
print(len(played(experiment("bayesianoptimization").sampler(0), 9)))
"""


def search(*parameters: Parameter, **options: Any) -> Search:
    return Search(tuple(dimension(each) for each in parameters), seed=3, settings={}, **options)


def history(sampler: Bayesian, count: int, value: Any) -> list[Past]:
    """Run `count` trials one at a time; `value` gives the objective of a trial's values."""
    trials: list[Past] = []
    for _ in range(count):
        proposal = sampler.propose(trials)
        assert proposal is not None
        trials.append(Past(proposal.point, proposal.values, True, value(proposal.values)))
    return trials


def test_needs_neither_torch_nor_optuna() -> None:
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout == "9\n", run.stderr


def test_start_fills_the_space_evenly() -> None:
    trials = history(Bayesian(search(LR), START_UP), START_UP, lambda values: 1.0)
    decades = sorted(math.log10(float(past.values["lr"])) for past in trials)
    width = 3 / START_UP
    assert [int((decade + 5) / width) for decade in decades] == list(range(START_UP))


def test_every_kind_of_parameter_comes_back_in_range() -> None:
    sampler = Bayesian(search(*EVERY_KIND), START_UP)
    trials = history(sampler, 12, lambda values: float(values["lr"]) * float(values["bs"]))
    assert len({tuple(past.values.values()) for past in trials}) == len(trials)
    for past in trials:
        for each in sampler.dimensions:
            assert each.find(past.values[each.name]) == past.values[each.name]


def test_finds_the_best_choice_and_number() -> None:
    def value(values: Any) -> float:
        wrong = values["loss"] != "hinge"
        return float(abs(math.log10(values["lr"]) + 3.3) + 0.5 * wrong + values["units"] / 1e4)

    trials = history(Bayesian(search(*EVERY_KIND), START_UP), 30, value)
    best = min(trials, key=lambda past: past.value or 0.0)
    assert best.values["loss"] == "hinge"
    assert float(best.values["lr"]) == pytest.approx(5e-4, rel=0.5)


def test_maximizes_like_it_minimizes() -> None:
    def value(values: Any) -> float:
        return abs(math.log10(values["lr"]) + 3.0)

    down = history(Bayesian(search(LR), START_UP), 9, value)
    up = history(Bayesian(search(LR, maximize=True), START_UP), 9, lambda values: -value(values))
    assert [past.values for past in up] == [past.values for past in down]
    assert min(past.value or 0.0 for past in down) < 0.1


def test_takes_logarithms_where_they_fit_better() -> None:
    x = np.linspace(0, 1, 25)[:, None]
    y = np.sin(6 * x[:, 0])
    decades = fitted(x, np.exp(5 * y), [0])
    assert np.allclose(decades.y, (y - y.mean()) / y.std())
    even = fitted(x, 10 + y, [0])
    assert np.allclose(even.y, (y - y.mean()) / y.std())


@pytest.mark.parametrize(
    "values", [[1e308, -1e308, 1e300, 0.0], [5.0] * 4, [0.0] * 4, [1e-320] * 4]
)
def test_extreme_values_give_a_finite_model(values: list[float]) -> None:
    model = fitted(np.linspace(0, 1, 4)[:, None], np.array(values), [0])
    assert np.isfinite(model.mean(np.linspace(0, 1, 9)[:, None])).all()


def test_long_history_keeps_newest_and_best(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[gp.Array] = []

    class Recorded(gp.Process):
        def __init__(self, x: gp.Array, *rest: Any) -> None:
            received.append(x)
            super().__init__(x, *rest)

    monkeypatch.setattr(gp, "Process", Recorded)
    sampler, half = Bayesian(search(Double("a", 0.0, 1.0)), START_UP), MOST_TRIALS // 2
    points = [proposal_of(sampler.dimensions, {"a": at / 1000}) for at in range(300)]
    # the lowest objectives are in the middle of the older trials
    trials = [Past(p.point, p.values, True, abs(at - 120) - 200.0) for at, p in enumerate(points)]
    assert sampler.propose(trials) is not None
    kept = sorted(round(1000 * float(each)) for each in received[0][:, 0])
    assert kept == [*range(120 - half // 2, 120 + half // 2), *range(300 - half, 300)]
