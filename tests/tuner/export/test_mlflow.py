"""`gantune export --to mlflow`: what MLflow's store holds equals the result, also after a repeated export."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.samples import experiment, search
from tuner.errors import UnsupportedError
from tuner.export.mlflow import STUDY_TAG, TRIAL_TAG, export
from tuner.result import Observation, Result

mlflow = pytest.importorskip("mlflow", reason="needs MLflow: pip install 'gan-tuner[mlflow]'")
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def timed(result: Result) -> Result:
    trials = (
        replace(each, started=START, ended=START + timedelta(seconds=9)) for each in result.trials
    )
    return replace(result, trials=tuple(trials))


def curves(result: Result) -> dict[str, dict[str, tuple[Observation, ...]]]:
    return {
        trial.name: {
            "fd": tuple(
                Observation("fd", value, START + timedelta(seconds=index))
                for index, value in enumerate((2 * trial.metrics["fd"], trial.metrics["fd"]))
            )
        }
        for trial in result.trials
        if "fd" in trial.metrics
    }


def runs(uri: str, result: Result) -> tuple[Any, dict[str, Any]]:
    client = mlflow.MlflowClient(uri)
    found = client.search_runs([client.get_experiment_by_name(result.name).experiment_id])
    [parent] = [run for run in found if STUDY_TAG in run.data.tags]
    children = {run.data.tags[TRIAL_TAG]: run for run in found if TRIAL_TAG in run.data.tags}
    assert len(children) == len(found) - 1
    return parent, children


def test_runs_equal_the_result(uri: str) -> None:
    result = timed(search(12))
    written = export(uri, result, experiment(["run"]), curves(result), tags={"seed": "7"})
    assert written == 12
    parent, children = runs(uri, result)
    assert parent.data.tags["gan-tuner.seed"] == "7"
    best = result.best
    assert best is not None
    assert parent.data.metrics["best_fd"] == best.metrics["fd"]
    client = mlflow.MlflowClient(uri)
    for trial in result.trials:
        run = children[trial.name]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.params == {name: str(value) for name, value in trial.parameters.items()}
        assert run.data.metrics == trial.metrics
        assert run.info.end_time == int((START + timedelta(seconds=9)).timestamp() * 1000)
        history = client.get_metric_history(run.info.run_id, "fd")
        assert [each.step for each in history] == list(range(len(history)))
        assert len(history) == (2 if "fd" in trial.metrics else 0)


def test_repeated_export_updates(uri: str) -> None:
    result = timed(search(5))
    export(uri, result, experiment(["run"]), curves(result))
    assert export(uri, result, experiment(["run"]), curves(result)) == 0
    more = timed(search(7))
    assert export(uri, more, experiment(["run"]), curves(more)) == 2
    assert len(runs(uri, more)[1]) == 7


def test_server_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UnsupportedError, match=r"the MLflow server http://127\.0\.0\.1:9 failed"):
        export("http://127.0.0.1:9", search(2), experiment(["run"]), {})
