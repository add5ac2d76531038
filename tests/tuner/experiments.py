"""Experiments for the tests of the local engine: one document, varied by keyword."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tuner import manifest
from tuner.engines.base import Event
from tuner.engines.local import LocalEngine
from tuner.experiment.model import Experiment
from tuner.katib.facts import API_VERSION
from tuner.result import Result
from tuner.store.studies import Store

TRIALS = Path(__file__).parent / "trials"  # the directory to run in: it holds surface_trial.py
LR = {
    "name": "lr",
    "parameterType": "double",
    "feasibleSpace": {"min": "1e-5", "max": "1e-2", "distribution": "logUniform"},
}
BS = {"name": "bs", "parameterType": "int", "feasibleSpace": {"min": "32", "max": "128"}}
GRID_LR = {
    "name": "lr",
    "parameterType": "categorical",
    "feasibleSpace": {"list": ["1e-4", "5e-4", "1e-3"]},
}
GRID_BS = {
    "name": "bs",
    "parameterType": "discrete",
    "feasibleSpace": {"list": ["32", "64", "128"]},
}
MODULE = ["python", "-m", "surface_trial"]
ARGS = ["--lr=${trialParameters.lr}", "--bs=${trialParameters.bs}"]
CHECKPOINTS = "/var/log/katib/checkpoints/"
SETTINGS = {
    "hyperband": {"resource_name": "epochs", "r_l": "9"},
    "pbt": {
        "suggestion_trial_dir": CHECKPOINTS,
        "n_population": "5",
        "truncation_threshold": "0.2",
    },
}
EPOCHS = {"name": "epochs", "parameterType": "int", "feasibleSpace": {"min": "1", "max": "9"}}


def _parameters(algorithm: str) -> list[dict[str, Any]]:
    return (
        [GRID_LR, GRID_BS]
        if algorithm == "grid"
        else [LR, BS] + ([EPOCHS] if algorithm == "hyperband" else [])
    )


def _settings(algorithm: str, given: dict[str, str]) -> dict[str, str]:
    seed = {} if algorithm in SETTINGS else {"random_state": "7"}
    return {**seed, **SETTINGS.get(algorithm, {}), **given}


def _job(container: dict[str, Any], pod: dict[str, Any], deadline: int | None) -> dict[str, Any]:
    template = {"spec": {"restartPolicy": "Never", "containers": [container], **pod}}
    limit = {} if deadline is None else {"activeDeadlineSeconds": deadline}
    return {"backoffLimit": 0, "template": template, **limit}


def _optional(
    trials: int | None,
    failures: int | None,
    collector: dict[str, Any] | None,
    early_stopping: dict[str, str] | None,
) -> dict[str, Any]:
    found = {
        "maxTrialCount": trials,
        "maxFailedTrialCount": failures,
        "metricsCollectorSpec": collector,
    }
    if early_stopping is not None:
        listed = [{"name": key, "value": value} for key, value in early_stopping.items()]
        found["earlyStopping"] = {"algorithmName": "medianstop", "algorithmSettings": listed}
    return {key: value for key, value in found.items() if value is not None}


def document(
    algorithm: str = "random",
    *,
    command: list[str] | None = None,
    args: list[str] | None = None,
    trials: int | None = 9,
    parallel: int = 3,
    failures: int | None = None,
    goal: float | None = None,
    settings: dict[str, str] | None = None,
    parameters: list[dict[str, Any]] | None = None,
    collector: dict[str, Any] | None = None,
    early_stopping: dict[str, str] | None = None,
    strategy: str = "latest",
    container: dict[str, Any] | None = None,
    pod: dict[str, Any] | None = None,
    deadline: int | None = None,
    name: str = "study",
) -> dict[str, Any]:
    """An Experiment as YAML would give it."""
    parameters = _parameters(algorithm) if parameters is None else parameters
    settings = _settings(algorithm, settings or {})
    main = {
        "name": "main",
        "image": "x",
        "command": command or MODULE,
        "args": ARGS if args is None else args,
    }
    job = _job(main | (container or {}), pod or {}, deadline)
    spec: dict[str, Any] = {
        "objective": {
            "type": "minimize",
            "objectiveMetricName": "fd",
            "additionalMetricNames": ["loss"],
            "metricStrategies": [
                {"name": "fd", "value": strategy},
                {"name": "loss", "value": "latest"},
            ],
        },
        "algorithm": {
            "algorithmName": algorithm,
            "algorithmSettings": [{"name": key, "value": value} for key, value in settings.items()],
        },
        "parallelTrialCount": parallel,
        "parameters": parameters,
        "trialTemplate": {
            "primaryContainerName": "main",
            "trialParameters": [
                {"name": one["name"], "reference": one["name"]} for one in parameters
            ],
            "trialSpec": {"apiVersion": "batch/v1", "kind": "Job", "spec": job},
        },
    }
    spec |= _optional(trials, failures, collector, early_stopping)
    if goal is not None:
        spec["objective"]["goal"] = goal
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": API_VERSION, "kind": "Experiment", "metadata": metadata, "spec": spec}


def experiment(algorithm: str = "random", **options: Any) -> Experiment:
    """The same, parsed."""
    return manifest.from_document(document(algorithm, **options))


def run(root: Path, what: Experiment, **options: Any) -> Result:
    """Run an Experiment to its end."""
    return events(LocalEngine(Store(root), **options), what)[-1].result


def events(engine: LocalEngine, what: Experiment) -> list[Event]:
    """Every event of a run."""
    return list(engine.run(what))


def table(result: Result) -> list[tuple[Any, ...]]:
    """What must be the same whenever and however a search ran: everything but the times."""
    rows = [
        (t.number, t.name, t.state, dict(t.parameters), dict(t.metrics), t.reason)
        for t in result.trials
    ]
    return [(result.state, result.reason, result.best.number if result.best else None), *rows]
