"""Experiments that this machine runs otherwise than Katib: each runs, and each difference is a warning."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.experiments import ARGS, EPOCHS, TRIALS, document, events, run
from tuner import manifest
from tuner.engine import EventKind
from tuner.engines.local import LocalEngine
from tuner.engines.local.adapt import adapt
from tuner.errors import UnsupportedError
from tuner.manifest import CollectorKind, Experiment
from tuner.result import Result, TrialState
from tuner.store import Store

SHELL = ["sh", "-c"]


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TRIALS)


def outcome(root: Path, what: Experiment, **options: Any) -> tuple[Result, list[str]]:
    """The result of a run, and its warnings."""
    seen = events(LocalEngine(Store(root), **options), what)
    return seen[-1].result, [event.message for event in seen if event.kind is EventKind.WARNING]


def test_custom_collector_with_file_reads_file(tmp_path: Path) -> None:
    collector = {
        "collector": {
            "kind": "Custom",
            "customCollector": {"name": "own", "image": "x", "args": ["-path", "/logs/m.log"]},
        },
        "source": {"fileSystemPath": {"kind": "File", "path": "/logs/m.log"}},
    }
    script = "echo fd=3 > /logs/m.log"
    what = manifest.from_document(document(command=SHELL, args=[script], trials=1, collector=collector))
    assert what.collector.kind is CollectorKind.CUSTOM
    result, warnings = outcome(tmp_path, what)
    assert result.trials[0].metrics == {"fd": 3.0}
    assert warnings[0].startswith("the container of the Custom collector does not run: /logs/m.log is read")


@pytest.mark.parametrize("strategy", ["ipop", "bipop"])
def test_cmaes_runs_without_restarts(strategy: str, tmp_path: Path) -> None:
    plain = manifest.from_document(document("cmaes", trials=6))
    what = manifest.from_document(document("cmaes", trials=6, settings={"restart_strategy": strategy}))
    result, warnings = outcome(tmp_path / "restarts", what)
    assert f"restart_strategy={strategy} has no effect" in warnings[0]
    expected = run(tmp_path / "plain", plain)
    assert [trial.parameters for trial in result.trials] == [trial.parameters for trial in expected.trials]


def test_hyperband_replaces_medianstop() -> None:
    what = manifest.from_document(document("hyperband", trials=2, early_stopping={"start_step": "2"}))
    adapted, warnings = adapt(what)
    assert adapted.early_stopping is None
    assert warnings == ["medianstop has no effect locally, because hyperband stops trials itself"]


def test_resource_of_hyperband_may_exceed_its_bounds(tmp_path: Path) -> None:
    lr = document()["spec"]["parameters"][0]
    epochs = EPOCHS | {"feasibleSpace": {"min": "1", "max": "4"}}
    script = "echo fd=${trialParameters.epochs} # ${trialParameters.lr}"
    what = manifest.from_document(
        document("hyperband", command=SHELL, args=[script], trials=3, parallel=9, parameters=[lr, epochs])
    )
    result, _ = outcome(tmp_path, what)
    assert [trial.metrics["fd"] for trial in result.trials] == [9.0] * 3


@pytest.mark.parametrize("algorithm", ["grid", "multivariate-tpe", "hyperband"])
def test_single_value_is_a_range(algorithm: str, tmp_path: Path) -> None:
    fixed = {"name": "bs", "parameterType": "int", "feasibleSpace": {"min": "64", "max": "64"}}
    lr = {"name": "lr", "parameterType": "double", "feasibleSpace": {"min": "0.1", "max": "0.3", "step": "0.1"}}
    parameters = [lr, fixed, *([EPOCHS] if algorithm == "hyperband" else [])]
    script = "echo fd=${trialParameters.bs} # ${trialParameters.lr}"
    script += " ${trialParameters.epochs}" if algorithm == "hyperband" else ""
    what = manifest.from_document(
        document(algorithm, command=SHELL, args=[script], trials=3, parallel=9, parameters=parameters)
    )
    result, _ = outcome(tmp_path, what)
    assert [trial.metrics["fd"] for trial in result.trials] == [64.0] * 3


def mpi(command: list[str]) -> Experiment:
    """An MPIJob whose launcher runs `command`, followed by the arguments of the test program."""
    held = document(trials=1)
    launcher = {"name": "main", "image": "x", "command": command, "args": ARGS}
    spec = {"Launcher": {"replicas": 1, "template": {"spec": {"containers": [launcher]}}}}
    workers = {"Worker": {"replicas": 2, "template": {"spec": {"containers": [{"name": "worker", "image": "x"}]}}}}
    held["spec"]["trialTemplate"]["trialSpec"] = {
        "apiVersion": "kubeflow.org/v1",
        "kind": "MPIJob",
        "spec": {"mpiReplicaSpecs": spec | workers},
    }
    return manifest.from_document(held)


OPTIONS = ["-np", "2", "--allow-run-as-root", "-bind-to", "none", "-map-by", "slot", "-x", "LD_LIBRARY_PATH"]


def test_program_of_mpirun_runs_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent) + ":/bin")
    what = mpi(["mpirun", *OPTIONS, "-mca", "pml", "ob1", "python", "-m", "surface_trial"])
    result, warnings = outcome(tmp_path, what)
    assert result.trials[0].state is TrialState.SUCCEEDED, result.trials[0].reason
    assert any("mpirun is not found on this machine, so python runs as a single process" in each for each in warnings)


def test_mpirun_runs_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "mpirun"
    program.write_text('#!/bin/sh\nshift 2\nexec "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{Path(sys.executable).parent}:/bin:/usr/bin")
    what = mpi(["mpirun", "-np", "2", "python", "-m", "surface_trial"])
    assert adapt(what) == (what, [])
    result, _ = outcome(tmp_path / "store", what)
    assert result.trials[0].state is TrialState.SUCCEEDED, result.trials[0].reason


def without_command() -> Experiment:
    held = document(trials=1)
    del held["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0]["command"]
    return manifest.from_document(held)


def test_command_of_the_image_can_be_given(tmp_path: Path) -> None:
    result, _ = outcome(tmp_path, without_command(), command=["python", "-m", "surface_trial"])
    assert result.trials[0].state is TrialState.SUCCEEDED
    with pytest.raises(UnsupportedError, match="--command is for a container without a command, but main has one"):
        LocalEngine(Store(tmp_path), command=["true"]).submit(manifest.from_document(document(trials=1, name="other")))
