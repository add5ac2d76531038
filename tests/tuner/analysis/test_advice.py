"""What the advice makes of studies whose surface is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from tests.tuner import samples
from tuner.analysis.advice import Change, Kind, advice, revised
from tuner.experiment.model import AlgorithmSpec, Experiment
from tuner.result import Goal, Objective, Result, StudyState, Trial, TrialState
from tuner.samplers.transform import dimension
from tuner.space import Categorical, Discrete, Distribution, Double, Int, Parameter, Value

LR = Double("lr", 1e-5, 1e-1, distribution=Distribution.LOG_UNIFORM)
BS = Int("bs", 32, 256)
DROPOUT = Double("dropout", 0.0, 0.5)
OPT = Categorical("opt", ("adam", "sgd", "rmsprop"))
Score = Callable[[dict[str, Value]], float]


def study(
    parameters: Sequence[Parameter],
    score: Score,
    count: int = 24,
    goal: Goal = Goal.MINIMIZE,
    trials: int | None = 24,
) -> tuple[Result, Experiment]:
    """A random search over `parameters`, and its Experiment."""
    random = np.random.default_rng(0)
    made = []
    for number in range(count):
        point = {p.name: dimension(p).at(float(random.random())) for p in parameters}
        made.append(Trial(number, f"t-{number}", TrialState.SUCCEEDED, point, {"fd": score(point)}))
    objective = Objective("fd", goal)
    experiment = replace(
        samples.experiment(["x"]),
        parameters=tuple(parameters),
        objective=objective,
        max_trials=trials,
    )
    return Result("gan-x", StudyState.SUCCEEDED, objective, tuple(made)), experiment


def by_name(changes: list[Change]) -> dict[str, Change]:
    return {change.parameter: change for change in changes}


def decades(point: dict[str, Value], at: float = 1e-3) -> float:
    """How far lr is from `at`, in decades."""
    return abs(math.log10(float(point["lr"]) / at))


def test_fixes_what_does_not_matter() -> None:
    result, experiment = study([LR, DROPOUT], lambda p: math.exp(decades(p)))
    change = by_name(advice(result, experiment))["dropout"]
    assert change.kind is Kind.FIX
    ranked = sorted(result.trials, key=lambda trial: trial.metrics["fd"])
    assert change.value in [trial.parameters["dropout"] for trial in ranked[:3]]
    assert "of the effect on fd" in change.reason


def test_keeps_what_little_data_hides() -> None:
    result, experiment = study([LR, DROPOUT, BS, OPT], lambda p: math.exp(decades(p)), count=12)
    assert not [change for change in advice(result, experiment) if change.kind is Kind.FIX]


def test_keeps_what_matters_near_the_best() -> None:
    result, experiment = study(
        [LR, BS], lambda p: math.exp(3 * decades(p) + 0.3 * abs(math.log2(int(p["bs"]) / 64)))
    )
    assert (
        by_name(advice(result, experiment)).get("bs", Change(Kind.SHRINK, "", "")).kind
        is not Kind.FIX
    )


def test_shrinks_to_the_promising_range() -> None:
    result, experiment = study([LR, BS], lambda p: math.exp(decades(p)) * (1 + int(p["bs"]) / 100))
    space = by_name(advice(result, experiment))["lr"].space
    assert isinstance(space, Double)
    assert LR.low < space.low < 1e-3 < space.high < LR.high
    assert space.distribution is LR.distribution


@pytest.mark.parametrize("goal", list(Goal))
def test_widens_at_the_bound(goal: Goal) -> None:
    sign = 1 if goal is Goal.MINIMIZE else -1
    result, experiment = study(
        [BS, LR], lambda p: sign * (int(p["bs"]) / 10 + decades(p)), count=40, goal=goal
    )
    change = by_name(advice(result, experiment))["bs"]
    assert (change.kind, change.reason.split(",")[0]) == (
        Kind.WIDEN,
        "most of the best 3 trials sit on the lower bound 32",
    )
    assert isinstance(change.space, Int)
    assert change.space.low == 8
    assert change.space.high < 256


def test_widens_instead_of_fixing_at_a_bound() -> None:
    """Within the range, bs seems negligible; the best trials sit on its lower bound all the same."""

    def score(point: dict[str, Value]) -> float:
        return math.exp(decades(point) ** 2) * (1 + int(point["bs"]) / 5000)

    result, experiment = study([LR, BS], score, count=30)
    points = [{"lr": 1e-3 * 1.01**k, "bs": 32 + k} for k in range(6)]
    best = tuple(
        Trial(30 + n, f"t-{30 + n}", TrialState.SUCCEEDED, point, {"fd": score(point)})
        for n, point in enumerate(points)
    )
    change = by_name(advice(replace(result, trials=result.trials + best), experiment))["bs"]
    assert change.kind is Kind.WIDEN
    assert isinstance(change.space, Int)
    assert change.space.low == 8


def test_says_what_widening_costs() -> None:
    result, experiment = study([BS, LR], lambda p: int(p["bs"]) / 10 + decades(p), count=40)
    assert "times as long" not in by_name(advice(result, experiment))["bs"].reason
    objective = replace(result.objective, cost_metric="seconds")
    trials = tuple(
        replace(each, metrics={**each.metrics, "seconds": 640 / int(each.parameters["bs"])})
        for each in result.trials
    )
    dearer = replace(result, objective=objective, trials=trials)
    assert by_name(advice(dearer, experiment))["bs"].reason == (
        "most of the best 3 trials sit on the lower bound 32, so the optimum may be beyond it; "
        "a trial at 8 takes about 4.0 times as long as one at 32"
    )


@pytest.mark.parametrize(
    ("parameter", "low", "wider"),
    [
        (Double("lr", 1e-4, 1e-2, distribution=Distribution.LOG_UNIFORM), True, (2.5e-5, None)),
        (Double("lr", 1e-4, 1e-2, distribution=Distribution.LOG_UNIFORM), False, (None, 0.04)),
        (Double("momentum", 0.0, 0.9), False, (None, 0.98)),
        (Double("momentum", 0.0, 1.0), False, None),
        (Double("dropout", 0.0, 0.5), True, None),
        (Double("shift", -2.0, 2.0), True, (-4.0, None)),
        (Int("layers", 1, 8), True, None),
        (Int("layers", 1, 8), False, (None, 32)),
        (Int("bs", 32, 256, step=32), False, (None, 1024)),
        (Double("p", 2.0, 4.0, step=0.5), False, None),
        (Discrete("bs", ("32", "64", "128")), True, "16"),
        (Discrete("bs", ("32", "64", "128")), False, "256"),
        (Discrete("n", ("1", "2", "3")), True, None),
        (Discrete("wd", ("0", "0.01", "0.1")), True, None),
        (Discrete("wd", ("0", "0.01", "0.1")), False, "1"),
    ],
    ids=str,
)
def test_widening_respects_natural_limits(parameter: Parameter, low: bool, wider: object) -> None:
    unit = dimension(parameter)
    values = {str(unit.at(u)): u for u in np.linspace(0, 0.999, 50)}

    def score(point: dict[str, Value]) -> float:
        u = values.get(str(point[parameter.name]), 0.0)
        return 1 + (u if low else 1 - u)

    random = np.random.default_rng(0)
    points = [unit.at(float(random.choice(np.linspace(0, 0.999, 50)))) for _ in range(30)]
    points += [unit.at(0.0 if low else 0.999)] * 3
    held, experiment = study([parameter], lambda p: 1.0, count=1)
    trials = tuple(
        Trial(
            n,
            f"t-{n}",
            TrialState.SUCCEEDED,
            {parameter.name: v},
            {"fd": score({parameter.name: v})},
        )
        for n, v in enumerate(points)
    )
    change = by_name(advice(replace(held, trials=trials), experiment)).get(parameter.name)
    if wider is None:
        assert change is None or change.kind is not Kind.WIDEN
        return
    assert change is not None
    assert change.kind is Kind.WIDEN
    if isinstance(change.space, Discrete):
        assert change.space.choices[0 if low else -1] == wider
    else:
        assert isinstance(change.space, Double | Int)
        assert isinstance(wider, tuple)
        assert (change.space.low if low else change.space.high) == wider[0 if low else 1]


def test_drops_clearly_worse_choices() -> None:
    cost = {"adam": 1.0, "rmsprop": 1.3, "sgd": 20.0}
    result, experiment = study(
        [OPT, LR], lambda p: cost[str(p["opt"])] * math.exp(0.3 * decades(p)), count=30
    )
    change = by_name(advice(result, experiment))["opt"]
    assert change.space == Categorical("opt", ("adam", "rmsprop"))
    assert "sgd" in change.reason


def test_budget_follows_the_expected_best() -> None:
    random = np.random.default_rng(1)
    flat, experiment = study([LR], lambda p: 10 + 0.05 * decades(p))
    less = advice(flat, experiment)[-1]
    assert (less.kind, less.trials) == (Kind.BUDGET, 12)
    steep, experiment = study(
        [LR], lambda p: math.exp(decades(p, 1e-1) + 0.1 * random.standard_normal())
    )
    more = advice(steep, experiment)[-1]
    assert (more.kind, more.trials) == (Kind.BUDGET, 48)
    assert "the second half of 24 trials still improves the expected best fd by" in more.reason


def test_budget_of_grid_is_its_size() -> None:
    wide = Discrete("bs", ("32", "64", "128"))
    result, experiment = study([wide], lambda p: float(p["bs"]), count=12, trials=3)
    changes = advice(result, replace(experiment, algorithm=AlgorithmSpec("grid")))
    (space,) = revised(experiment.parameters, changes)
    assert isinstance(space, Discrete)
    assert changes[-1].trials == len(space.choices)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_trials_give_no_advice(count: int) -> None:
    result, experiment = study([LR, BS], decades, count=count)
    assert advice(result, experiment) == []


def test_equal_trials_give_no_advice() -> None:
    result, experiment = study([LR, BS], lambda p: 3.0)
    assert advice(result, experiment) == []


def test_failed_trials_are_ignored() -> None:
    result, experiment = study([LR, BS], lambda p: math.exp(decades(p)))
    failed = [
        replace(t, number=90 + t.number, state=TrialState.FAILED, metrics={}) for t in result.trials
    ]
    assert advice(replace(result, trials=(*result.trials, *failed)), experiment) == advice(
        result, experiment
    )


def test_unknown_choices_are_ignored() -> None:
    result, experiment = study([LR, OPT], lambda p: math.exp(decades(p)))
    odd = replace(
        result.trials[0], number=99, parameters={"lr": 1e-3, "opt": "lion"}, metrics={"fd": 0.001}
    )
    assert advice(replace(result, trials=(*result.trials, odd)), experiment) == advice(
        result, experiment
    )


def test_goal_turns_the_advice() -> None:
    low = advice(*study([LR, BS], lambda p: decades(p) + int(p["bs"]) / 256))
    high = advice(
        *study([LR, BS], lambda p: 9 - decades(p) - int(p["bs"]) / 256, goal=Goal.MAXIMIZE)
    )
    assert [change.parameter for change in low if change.parameter] == [
        c.parameter for c in high if c.parameter
    ]


def test_change_reads_as_a_sentence() -> None:
    assert (
        str(Change(Kind.SHRINK, "lr", "why", space=Double("lr", 1e-4, 1e-2)))
        == "shrink lr to [0.0001, 0.01]: why"
    )
    assert str(Change(Kind.FIX, "opt", "why", value="adam")) == "fix opt at adam: why"
    assert str(Change(Kind.BUDGET, "", "why", trials=9)) == "run 9 trials: why"
