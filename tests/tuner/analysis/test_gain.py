"""What a search gained over its baseline, and what that cost."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tuner.analysis import gain
from tuner.result import Goal, Objective, Result, StudyState, Trial, TrialState


def trial(
    number: int,
    fd: float | None,
    seconds: float | None = None,
    state: str = "Succeeded",
    lr: float = 0.0,
) -> Trial:
    metrics = {
        name: value for name, value in (("fd", fd), ("train_seconds", seconds)) if value is not None
    }
    return Trial(number, f"s-{number}", TrialState(state), {"lr": lr or number + 1.0}, metrics)


def study(*trials: Trial, goal: str = "minimize", metric: str = "fd") -> Result:
    noise = 0.04 if metric == "fd" else None
    objective = Objective(metric, Goal(goal), seed_noise=noise, cost_metric="train_seconds")
    return Result("gan-wide", StudyState.SUCCEEDED, objective, trials, baseline={"lr": 1.0})


BETTER = study(trial(0, 3.71, 8.0), trial(1, 3.32, 16.0), trial(2, 4.0, 20.0))


def test_gain_is_a_share_of_the_baseline() -> None:
    assert BETTER.gain == pytest.approx(0.39 / 3.71)
    assert gain.sentence(BETTER) == (
        "fd 3.32, 11 % better than the baseline 3.71; seed noise is about 4 %: run `gantune confirm gan-wide`"
    )


def test_search_without_gain_says_so() -> None:
    same = study(trial(0, 3.71), trial(1, 3.71), trial(2, 9.0))
    assert gain.sentence(same) == "no trial is better than the baseline: fd 3.71 (trial 0)"
    assert same.gain == 0.0


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (trial(0, None, state="Failed"), "the baseline, trial 0, gave no fd"),
        (trial(0, 3.0, state="Failed"), "the baseline, trial 0, gave no fd"),
        (trial(0, None, state="Running"), "the baseline, trial 0, has not finished"),
        (trial(0, 3.71, lr=9.0), ""),  # trial 0 was not named
    ],
)
def test_baseline_without_a_score_is_named(first: Trial, said: str) -> None:
    result = study(first, trial(1, 3.32))
    assert (gain.sentence(result), result.gain) == (said, None)


def test_gain_over_a_tiny_baseline_is_no_share() -> None:
    result = study(trial(0, 1e-320), trial(1, 1e300), goal="maximize")
    assert (result.gain, result.to_json()["gain"]) == (None, None)
    assert gain.sentence(result).startswith("fd 1e+300, better than the baseline")


def test_maximised_objective_gains_upwards() -> None:
    result = study(trial(0, 0.5), trial(1, 0.8), goal="maximize")
    assert result.gain == pytest.approx(0.6)
    assert gain.sentence(result).startswith("fd 0.8, 60 % better than the baseline 0.5;")


def test_unknown_metric_claims_no_seed_noise() -> None:
    trials = (
        replace(trial(0, None), metrics={"loss": 0.0}),
        replace(trial(1, None), metrics={"loss": -1.0}),
    )
    assert gain.sentence(study(*trials, metric="loss")) == (
        "loss -1, better than the baseline 0; part of it may be seed noise: run `gantune confirm gan-wide`"
    )


def test_front_holds_what_no_other_trial_beats() -> None:
    pruned = trial(5, 3.0, 1.0, state="EarlyStopped")  # cheap because it was stopped
    result = study(
        trial(0, 3.71, 8.0),
        trial(1, 3.32, 16.0),
        trial(2, 4.0, 20.0),
        trial(3, 5.0, 4.0),
        trial(4, 5.5, 4.0),
        pruned,
    )
    assert [each.number for each in result.front()] == [3, 0, 1]
    assert gain.front_lines(result)[-1] == "3.32 after 16 s of training (trial 1)"
    assert gain.front_lines(study(trial(0, 3.0, 1.0), trial(1, 4.0, 2.0))) == []


def test_longer_training_of_the_best_is_told() -> None:
    assert gain.cost_sentence(BETTER) == "trial 1 trained 2.0 times as long as the baseline"
    assert gain.cost_sentence(study(trial(0, 3.71, 8.0), trial(1, 3.32, 9.0))) == ""
    assert gain.cost_sentence(study(trial(0, 3.71), trial(1, 3.32))) == ""


def test_cost_is_wall_time_without_a_metric() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    timed = [
        replace(each, started=start, ended=start + timedelta(seconds=10 * (each.number + 1)))
        for each in BETTER.trials
    ]
    result = replace(BETTER, objective=Objective("fd", Goal.MINIMIZE), trials=tuple(timed))
    assert [result.cost(each) for each in timed] == [10.0, 20.0, 30.0]
    assert gain.cost_sentence(result) == "trial 1 trained 2.0 times as long as the baseline"
    assert "part of it may be seed noise" in gain.sentence(result)


def test_json_keeps_baseline_gain_and_front() -> None:
    shape = BETTER.to_json()
    assert (shape["baseline"], shape["front"]) == (0, [0, 1])
    assert shape["gain"] == pytest.approx(0.39 / 3.71)
    assert Result.from_json(shape) == BETTER
    assert (shape["objective"]["seed_noise"], shape["objective"]["cost_metric"]) == (
        0.04,
        "train_seconds",
    )
    bare = replace(BETTER, baseline={}).to_json()
    assert (bare["baseline"], bare["gain"]) == (None, None)
