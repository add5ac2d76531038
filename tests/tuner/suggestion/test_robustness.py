"""Lost replies, missing, failing and deleted trials, restarts, other namespaces: the search continues as it should."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import pytest

from tests.tuner.experiments import BS, LR, document
from tests.tuner.suggestion.controller import WITHOUT_RESOURCE, Controller, Trial, serving
from tests.tuner.suggestion.test_parity import failing, surface
from tuner.samplers.labels import ISSUED_SETTING, NUMBER_LABEL, SEARCH_LABEL, SEARCH_SETTING
from tuner.suggestion.server import Server

FINITE = [
    {
        "name": "lr",
        "parameterType": "categorical",
        "feasibleSpace": {"list": ["1e-4", "1e-3", "5e-3"]},
    },
    {**BS, "feasibleSpace": {"min": "62", "max": "66"}},
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def points(controller: Controller) -> list[tuple[str, ...]]:
    return [tuple(trial.values.values()) for trial in controller.trials]


@pytest.mark.parametrize("algorithm", ["random", "tpe", "cmaes"])
def test_lost_reply_is_given_again(algorithm: str, server: Server) -> None:
    controller = Controller(document(algorithm, parallel=2), surface)
    controller.ask(server, 2)
    assert controller.ask(server, 2, lost=True) == controller.ask(server, 2)
    assert [trial.labels[NUMBER_LABEL] for trial in controller.trials] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("algorithm", WITHOUT_RESOURCE)
def test_nothing_stalls_or_repeats_in_a_chaotic_search(algorithm: str, server: Server) -> None:
    """Trials finish in any order, fail, have no metrics or are not listed yet, and the service is restarted."""
    chance = random.Random(algorithm)
    objective = lambda values: chance.choice([surface(values), surface(values), None, math.nan])  # noqa: E731
    space = [LR, BS] if algorithm == "cmaes" else FINITE
    controller = Controller(document(algorithm, parameters=space, trials=15, parallel=4), objective)
    with serving() as other:
        controller.fill(server)
        while controller.running:
            controller.finish(chance.choice(controller.running))
            controller.lag = chance.randrange(3)
            controller.fill(chance.choice([server, other]))
    assert len(controller.trials) == 15
    assert [trial.labels[NUMBER_LABEL] for trial in controller.trials] == [
        str(n) for n in range(15)
    ]
    assert len(set(points(controller))) == 15


@pytest.mark.parametrize("missing", [0, 2])
@pytest.mark.parametrize("algorithm", WITHOUT_RESOURCE)
def test_restart_after_a_trial_without_metrics(
    algorithm: str, missing: int, server: Server
) -> None:
    """Katib does not send such a trial, and the new process has never seen its point."""
    controller = Controller(document(algorithm, trials=9, parallel=3), surface)
    steady = Controller(document(algorithm, trials=9, parallel=3), surface)
    for one in (controller, steady):
        one.ask(server, 3)
        while len(one.trials) < 9:
            one.finish(one.running[0])
            one.trials[missing].condition = "METRICSUNAVAILABLE"
            with serving() as other:
                one.fill(other if one is controller else server)
    assert points(controller) == points(steady)
    assert [trial.labels[NUMBER_LABEL] for trial in controller.trials] == [str(n) for n in range(9)]


@pytest.mark.parametrize("algorithm", [name for name in WITHOUT_RESOURCE if name != "cmaes"])
def test_point_without_metrics_is_not_repeated(algorithm: str) -> None:
    controller = Controller(
        document(algorithm, parameters=FINITE, trials=15, parallel=1), lambda values: math.nan
    )
    with serving() as server:
        controller.run(lambda: server)
    assert len(set(points(controller))) == 15


def test_used_up_space_tries_points_without_value_again(server: Server) -> None:
    """Katib asks for more than maxTrialCount when trials had no metrics, and a refusal would leave it Running."""
    bad: set[str] = {"62", "65"}
    objective = lambda values: math.nan if values["bs"] in bad else surface(values)  # noqa: E731
    controller = Controller(document("grid", parameters=FINITE, trials=15, parallel=3), objective)
    controller.run(lambda: server)
    retried = [values["bs"] for values in controller.ask(server, 6)]
    assert sorted(retried) == ["62"] * 3 + ["65"] * 3
    assert len(set(points(controller)[15:])) == 6


@pytest.mark.parametrize("algorithm", ["tpe", "multivariate-tpe", "bayesianoptimization"])
def test_search_leaves_a_failing_region(algorithm: str, server: Server) -> None:
    what = document(algorithm, parameters=[LR, BS], trials=20, parallel=3)
    fails = lambda values: None if float(values["lr"]) > 5e-3 else surface(values)  # noqa: E731
    failed = []
    for seed in range(1 if algorithm == "bayesianoptimization" else 5):
        what["spec"]["algorithm"]["algorithmSettings"] = [
            {"name": "random_state", "value": str(seed)}
        ]
        controller = Controller(what, fails)
        controller.run(lambda: server)
        failed.append(sum(trial.condition == "FAILED" for trial in controller.trials))
    assert max(failed) <= 6


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "unavailable", "", "1e999"])
def test_succeeded_trial_without_a_number_counts_as_failed(value: str, server: Server) -> None:
    what = document("tpe", parallel=1, trials=14)
    failing, odd = (Controller(what, surface) for _ in range(2))
    for number in range(14):
        for controller in (failing, odd):
            controller.ask(server, 1)
            controller.finish(controller.trials[-1])
            if number % 3 == 0:
                trial = controller.trials[-1]
                trial.condition, trial.value = (
                    ("FAILED", "") if controller is failing else ("SUCCEEDED", value)
                )
    assert points(odd) == points(failing)


def test_early_stopped_trial_keeps_its_value(server: Server) -> None:
    what = document("tpe", parallel=1, trials=14)
    finished, stopped = (Controller(what, surface) for _ in range(2))
    for _ in range(14):
        for controller in (finished, stopped):
            controller.ask(server, 1)
            controller.finish(controller.trials[-1])
        stopped.trials[-1].condition = "EARLYSTOPPED"
    assert points(stopped) == points(finished)


def test_drawn_seed_is_kept_in_the_settings(server: Server) -> None:
    what = document("random", parallel=1)
    what["spec"]["algorithm"]["algorithmSettings"] = []
    one, two = (Controller(what, surface) for _ in range(2))
    for controller in (one, two):
        controller.ask(server, 1)
    assert points(one) != points(two)
    with serving() as other:
        before = one.settings["random_state"]
        assert one.ask(server, 2, lost=True) == one.ask(other, 2)
        assert one.settings["random_state"] == before


def test_trials_of_another_namespace_do_not_count(server: Server) -> None:
    """Katib's controller lists trials by the Experiment's name, whatever the namespace."""
    what = document("tpe", parallel=1, trials=14)
    alone, crowded = (Controller(what, surface) for _ in range(2))
    other = Controller(
        document("tpe", parallel=1, trials=14, settings={"random_state": "8"}), lambda values: -1.0
    )
    other.run(lambda: server)
    crowded.foreign = [
        *other.trials,
        Trial("study-stock", 0, {"lr": "7", "bs": "1000000"}, {}, "SUCCEEDED", "1"),
    ]
    for controller in (alone, crowded):
        controller.run(lambda: server)
    assert points(crowded) == points(alone)
    assert {trial.labels[SEARCH_LABEL] for trial in crowded.trials}.isdisjoint(
        trial.labels[SEARCH_LABEL] for trial in other.trials
    )


def test_twin_in_another_namespace_does_no_harm(server: Server) -> None:
    """An Experiment of the same name, seed and space has the same points, so its trials cannot be told apart."""
    what = document("tpe", parallel=2, trials=14)
    alone, crowded, twin = (Controller(what, failing) for _ in range(3))
    for _ in range(14):
        for controller in (crowded, twin):
            crowded.foreign, twin.foreign = twin.trials, crowded.trials
            controller.fill(server)
            controller.finish(controller.running[0])
    assert alone.run(lambda: server) == [trial.values for trial in crowded.trials]


def test_takes_over_from_another_service(server: Server) -> None:
    controller = Controller(document("random", parallel=1, parameters=FINITE, trials=15), surface)
    taken = [{"lr": lr, "bs": str(bs)} for lr in ("1e-4", "1e-3") for bs in range(62, 67)]
    controller.trials = [
        Trial(f"t{n}", n, values, {}, "SUCCEEDED", "1") for n, values in enumerate(taken)
    ]
    controller.ask(server, 1)
    controller.ask(server, 4)
    assert len(set(points(controller))) == 15
    assert [trial.labels[NUMBER_LABEL] for trial in controller.trials[10:]] == [
        "10",
        "11",
        "12",
        "13",
        "14",
    ]
    assert controller.settings[SEARCH_SETTING].endswith("-10")


def test_lower_parallel_count_gives_no_number_twice(server: Server) -> None:
    """Katib then deletes running trials and takes them out of its list of suggestions."""
    controller = Controller(document("tpe", parallel=4), surface)
    controller.ask(server, 4)
    del controller.trials[1]
    controller.ask(server, 2)
    assert [trial.labels[NUMBER_LABEL] for trial in controller.trials] == ["0", "2", "3", "4", "5"]


@pytest.mark.parametrize("algorithm", WITHOUT_RESOURCE)
def test_labels_and_fingerprints_give_the_same_search(algorithm: str, server: Server) -> None:
    """Katib 0.19 does not send the labels back, which a later one may do."""
    what = document(algorithm, parallel=2, trials=9)
    with_labels, without = (Controller(what, surface, labels=labels) for labels in (True, False))
    assert with_labels.run(lambda: server) == without.run(lambda: server)
    with_labels.settings = {}  # the labels are enough
    numbers = [trial.labels[NUMBER_LABEL] for trial in with_labels.trials]
    if algorithm != "grid":
        with_labels.ask(server, 1)
        assert [trial.labels[NUMBER_LABEL] for trial in with_labels.trials] == [*numbers, "9"]


def test_settings_of_the_largest_search_stay_small(server: Server) -> None:
    controller = Controller(document("random", parallel=100), surface)
    for _ in range(3):
        controller.ask(server, 100)
    assert len(controller.settings[ISSUED_SETTING]) == 6 * 300


@pytest.mark.parametrize("parallel", [1, 7])
def test_many_trials_at_once_have_different_points(parallel: int, server: Server) -> None:
    for algorithm in ("tpe", "multivariate-tpe"):
        controller = Controller(document(algorithm, parallel=parallel, trials=35), surface)
        controller.run(lambda: server)
        assert len(set(points(controller))) == 35
