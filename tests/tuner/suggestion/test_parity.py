"""The suggestion service proposes what the local engine runs: real gRPC on one side, real trials on the other."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.experiments import ARGS, BS, LR, TRIALS, document, run
from tests.tuner.suggestion.controller import WITHOUT_RESOURCE, Controller, serving
from tuner import manifest
from tuner.experiment.model import with_first_trials
from tuner.samplers.earlier import to_text
from tuner.space import text
from tuner.suggestion.server import Server

SHAPES = [
    LR,
    {
        "name": "bs",
        "parameterType": "int",
        "feasibleSpace": {"min": "1", "max": "512", "distribution": "logUniform"},
    },
    {
        "name": "a",
        "parameterType": "double",
        "feasibleSpace": {"min": "-1", "max": "3", "distribution": "normal"},
    },
    {
        "name": "b",
        "parameterType": "double",
        "feasibleSpace": {"min": "0.1", "max": "0.9", "step": "0.1"},
    },
    {
        "name": "c",
        "parameterType": "categorical",
        "feasibleSpace": {"list": ["adam", "sgd", "rmsprop"]},
    },
    {"name": "d", "parameterType": "discrete", "feasibleSpace": {"list": ["0.5", "2", "16"]}},
]


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TRIALS)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def surface(values: dict[str, str]) -> float:
    """What surface_trial reports."""
    best = 10 + abs(math.log10(float(values["lr"])) + 3.3) * 30 + abs(float(values["bs"]) - 64) / 16
    return best * 2


def failing(values: dict[str, str]) -> float | None:
    """What surface_trial reports with --fail-above=4e-3."""
    return None if float(values["lr"]) > 4e-3 else surface(values)


def both(
    tmp_path: Path, server: Server, what: dict[str, Any], objective: Any = failing
) -> tuple[Any, Any]:
    """The points of the local engine and of the service."""
    local = run(tmp_path, manifest.from_document(what), workers=2)
    ours = [
        {name: text(value) for name, value in trial.parameters.items()} for trial in local.trials
    ]
    return ours, Controller(what, objective).run(lambda: server)


@pytest.mark.parametrize("parallel", [1, 2])
@pytest.mark.parametrize("algorithm", WITHOUT_RESOURCE)
def test_gives_the_local_engines_points(
    algorithm: str, parallel: int, tmp_path: Path, server: Server
) -> None:
    trials = 9 if algorithm in ("grid", "bayesianoptimization") else 14
    what = document(algorithm, args=[*ARGS, "--fail-above=4e-3"], parallel=parallel, trials=trials)
    local, cluster = both(tmp_path, server, what)
    assert len(local) == trials
    assert cluster == local


@pytest.mark.parametrize("algorithm", ["random", "tpe", "bayesianoptimization", "cmaes", "sobol"])
def test_every_kind_of_parameter_survives_as_text(
    algorithm: str, tmp_path: Path, server: Server
) -> None:
    trials = 8 if algorithm == "bayesianoptimization" else 13
    what = document(algorithm, parameters=SHAPES, trials=trials, parallel=2)
    local, cluster = both(tmp_path, server, what, surface)
    assert cluster == local


@pytest.mark.parametrize("algorithm", WITHOUT_RESOURCE)
def test_restart_before_every_request_changes_nothing(algorithm: str, server: Server) -> None:
    trials = 9 if algorithm in ("grid", "bayesianoptimization") else 12
    what = document(algorithm, parallel=2, trials=trials)
    steady = Controller(what, failing).run(lambda: server)
    started: list[Server] = []

    def fresh() -> Server:
        while started:
            started.pop().stop()
        started.append(Server(0, "127.0.0.1"))
        return started[0]

    try:
        assert Controller(what, failing).run(fresh) == steady
    finally:
        fresh().stop()


def test_maximized_objective_is_the_mirror_image(tmp_path: Path, server: Server) -> None:
    what = document("tpe", parallel=1, trials=15)
    what["spec"]["algorithm"]["algorithmSettings"] = [{"name": "random_state", "value": "3"}]
    minimized = Controller(what, surface).run(lambda: server)
    what["spec"]["objective"]["type"] = "maximize"
    assert Controller(what, lambda values: -surface(values)).run(lambda: server) == minimized


def test_finite_space_has_no_duplicate(server: Server) -> None:
    lr = {
        "name": "lr",
        "parameterType": "discrete",
        "feasibleSpace": {"list": ["1e-4", "1e-3", "5e-3"]},
    }
    bs = {**BS, "feasibleSpace": {"min": "1", "max": "5"}}
    for algorithm in WITHOUT_RESOURCE:
        if algorithm != "cmaes":  # it keeps its own points, as in the local engine
            what = document(algorithm, parameters=[lr, bs], trials=15, parallel=4)
            points = Controller(what, failing).run(lambda: server)
            assert len({tuple(point.values()) for point in points}) == 15, algorithm


@pytest.mark.parametrize("algorithm", WITHOUT_RESOURCE)
def test_first_trials_run_first_on_both(algorithm: str, tmp_path: Path, server: Server) -> None:
    first = [{"lr": "5e-4", "bs": "64"}, {"lr": "1e-3", "bs": "32"}]
    what = document(algorithm, parallel=2, trials=9)
    local = run(tmp_path, with_first_trials(manifest.from_document(what), first), workers=2)
    setting = {"name": "first_trials", "value": json.dumps(first)}
    what["spec"]["algorithm"]["algorithmSettings"].append(setting)
    cluster = Controller(what, surface).run(lambda: server)
    assert [float(point["lr"]) for point in cluster[:2]] == [5e-4, 1e-3]
    assert cluster == [
        {name: text(value) for name, value in trial.parameters.items()} for trial in local.trials
    ]


@pytest.mark.parametrize("algorithm", ["tpe", "multivariate-tpe", "bayesianoptimization", "cmaes"])
def test_warm_start_is_the_same_on_both(algorithm: str, tmp_path: Path, server: Server) -> None:
    earlier = run(tmp_path, manifest.from_document(document("random", name="before", trials=12)))
    what = document(algorithm, parallel=1, trials=5)
    local = run(tmp_path, manifest.from_document(what), warm_start="before")
    scored = [(trial.parameters, trial.metrics["fd"]) for trial in earlier.trials]
    setting = {"name": "earlier_trials", "value": to_text(scored, ["lr", "bs"])}
    what["spec"]["algorithm"]["algorithmSettings"].append(setting)
    cluster = Controller(what, surface).run(lambda: server)
    assert cluster == [
        {name: text(value) for name, value in trial.parameters.items()} for trial in local.trials
    ]
    assert cluster != Controller(document(algorithm, parallel=1, trials=5), surface).run(
        lambda: server
    )
