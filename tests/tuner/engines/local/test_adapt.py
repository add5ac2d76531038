"""Experiments that this machine runs otherwise than Katib: each runs, and each difference is a warning."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.experiments import ARGS, EPOCHS, TRIALS, document, events, run
from tuner import manifest
from tuner.engines.base import EventKind
from tuner.engines.local import LocalEngine
from tuner.engines.local.adapt import adapt
from tuner.errors import UnsupportedError
from tuner.experiment.model import CollectorKind, Experiment
from tuner.result import Result, TrialState
from tuner.store.studies import Store

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
    what = manifest.from_document(
        document(command=SHELL, args=[script], trials=1, collector=collector)
    )
    assert what.collector.kind is CollectorKind.CUSTOM
    result, warnings = outcome(tmp_path, what)
    assert result.trials[0].metrics == {"fd": 3.0}
    assert warnings[0].startswith(
        "the container of the Custom collector does not run: /logs/m.log is read"
    )


@pytest.mark.parametrize("strategy", ["ipop", "bipop"])
def test_cmaes_runs_without_restarts(strategy: str, tmp_path: Path) -> None:
    plain = manifest.from_document(document("cmaes", trials=6))
    what = manifest.from_document(
        document("cmaes", trials=6, settings={"restart_strategy": strategy})
    )
    result, warnings = outcome(tmp_path / "restarts", what)
    assert f"restart_strategy={strategy} has no effect" in warnings[0]
    expected = run(tmp_path / "plain", plain)
    assert [trial.parameters for trial in result.trials] == [
        trial.parameters for trial in expected.trials
    ]


def test_hyperband_replaces_medianstop() -> None:
    what = manifest.from_document(
        document("hyperband", trials=2, early_stopping={"start_step": "2"})
    )
    adapted, warnings = adapt(what)
    assert adapted.early_stopping is None
    assert warnings == ["medianstop has no effect locally, because hyperband stops trials itself"]


def test_resource_of_hyperband_may_exceed_its_bounds(tmp_path: Path) -> None:
    lr = document()["spec"]["parameters"][0]
    epochs = EPOCHS | {"feasibleSpace": {"min": "1", "max": "4"}}
    script = "echo fd=${trialParameters.epochs} # ${trialParameters.lr}"
    what = manifest.from_document(
        document(
            "hyperband", command=SHELL, args=[script], trials=3, parallel=9, parameters=[lr, epochs]
        )
    )
    result, _ = outcome(tmp_path, what)
    assert [trial.metrics["fd"] for trial in result.trials] == [9.0] * 3


@pytest.mark.parametrize("algorithm", ["grid", "multivariate-tpe", "hyperband"])
def test_single_value_is_a_range(algorithm: str, tmp_path: Path) -> None:
    fixed = {"name": "bs", "parameterType": "int", "feasibleSpace": {"min": "64", "max": "64"}}
    lr = {
        "name": "lr",
        "parameterType": "double",
        "feasibleSpace": {"min": "0.1", "max": "0.3", "step": "0.1"},
    }
    parameters = [lr, fixed, *([EPOCHS] if algorithm == "hyperband" else [])]
    script = "echo fd=${trialParameters.bs} # ${trialParameters.lr}"
    script += " ${trialParameters.epochs}" if algorithm == "hyperband" else ""
    what = manifest.from_document(
        document(
            algorithm, command=SHELL, args=[script], trials=3, parallel=9, parameters=parameters
        )
    )
    result, _ = outcome(tmp_path, what)
    assert [trial.metrics["fd"] for trial in result.trials] == [64.0] * 3


def mpi(command: list[str]) -> Experiment:
    """An MPIJob whose launcher runs `command`, followed by the arguments of the test program."""
    held = document(trials=1)
    launcher = {"name": "main", "image": "x", "command": command, "args": ARGS}
    spec = {"Launcher": {"replicas": 1, "template": {"spec": {"containers": [launcher]}}}}
    workers = {
        "Worker": {
            "replicas": 2,
            "template": {"spec": {"containers": [{"name": "worker", "image": "x"}]}},
        }
    }
    held["spec"]["trialTemplate"]["trialSpec"] = {
        "apiVersion": "kubeflow.org/v1",
        "kind": "MPIJob",
        "spec": {"mpiReplicaSpecs": spec | workers},
    }
    return manifest.from_document(held)


OPTIONS = [
    "-np",
    "2",
    "--allow-run-as-root",
    "-bind-to",
    "none",
    "-map-by",
    "slot",
    "-x",
    "LD_LIBRARY_PATH",
]


def test_program_of_mpirun_runs_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent) + ":/bin")
    what = mpi(["mpirun", *OPTIONS, "-mca", "pml", "ob1", "python", "-m", "surface_trial"])
    result, warnings = outcome(tmp_path, what)
    assert result.trials[0].state is TrialState.SUCCEEDED, result.trials[0].reason
    assert any(
        "mpirun is not found on this machine, so python runs as a single process" in each
        for each in warnings
    )


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
    del held["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0][
        "command"
    ]
    return manifest.from_document(held)


def test_command_of_the_image_can_be_given(tmp_path: Path) -> None:
    result, _ = outcome(tmp_path, without_command(), command=["python", "-m", "surface_trial"])
    assert result.trials[0].state is TrialState.SUCCEEDED
    with pytest.raises(
        UnsupportedError, match="--command is for a container without a command, but main has one"
    ):
        LocalEngine(Store(tmp_path), command=["true"]).run(
            manifest.from_document(document(trials=1, name="other"))
        )


def distributed(kind: str, command: list[str], **options: Any) -> Experiment:
    """A job of a training operator with two replicas, whose primary container runs `command`."""
    held = document(
        command=command, args=["# ${trialParameters.lr} ${trialParameters.bs}"], **options
    )
    template = held["spec"]["trialTemplate"]
    pod = template["trialSpec"]["spec"]["template"]
    if kind == "TrainJob":
        main = pod["spec"]["containers"][0]
        trainer = {"command": main["command"], "args": main["args"], "numNodes": 2}
        template["primaryContainerName"] = "node"
        spec: dict[str, Any] = {"runtimeRef": {"name": "torch-distributed"}, "trainer": trainer}
    else:
        roles = {
            "Master": {"replicas": 1, "template": pod},
            "Worker": {"replicas": 2, "template": pod},
        }
        spec = {f"{kind[0].lower()}{kind[1:].removesuffix('Job')}ReplicaSpecs": roles}
    version = "trainer.kubeflow.org/v1alpha1" if kind == "TrainJob" else "kubeflow.org/v1"
    template["trialSpec"] = {"apiVersion": version, "kind": kind, "spec": spec}
    return manifest.from_document(held)


PLAIN = {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "1", "RANK": "0"}
TORCHRUN = {
    "PET_NNODES": "1",
    "PET_NPROC_PER_NODE": "1",
    "PET_NODE_RANK": "0",
    "PET_MASTER_ADDR": "127.0.0.1",
}


@pytest.mark.parametrize(
    ("kind", "further", "variables", "ports"),
    [
        ("PyTorchJob", "2 x Worker", PLAIN | TORCHRUN, {"MASTER_PORT", "PET_MASTER_PORT"}),
        ("XGBoostJob", "2 x Worker", PLAIN, {"MASTER_PORT"}),
        ("TrainJob", "1 further nodes", TORCHRUN, {"PET_MASTER_PORT"}),
        ("TFJob", "2 x Worker", {}, set()),
    ],
)
def test_distributed_job_runs_as_one_process(
    kind: str, further: str, variables: dict[str, str], ports: set[str], tmp_path: Path
) -> None:
    what = distributed(kind, ["sh", "-c", "env; echo fd=1"], trials=2, parallel=2)
    result, warnings = outcome(tmp_path, what, workers=2)
    assert [trial.state for trial in result.trials] == [TrialState.SUCCEEDED] * 2, result.trials[
        0
    ].reason
    assert any(
        "as a single process (world size 1)" in each and further in each for each in warnings
    )
    seen = []
    for number in range(2):
        text = (
            tmp_path / "local" / "study" / "trials" / f"study-{number}" / "output.log"
        ).read_text()
        env = dict(line.split("=", 1) for line in text.splitlines())
        relevant = {
            name: value
            for name, value in env.items()
            if name.startswith("PET_")
            or name in ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK", "TF_CONFIG")
        }
        used = {name: relevant.pop(name) for name in ports}
        assert relevant == variables
        seen.append(used)
    assert not ports or len({value for used in seen for value in used.values()}) == 2


def test_process_group_of_one_can_be_made(tmp_path: Path) -> None:
    program = (
        "import torch, torch.distributed as dist; dist.init_process_group('gloo'); one = torch.ones(1); "
        "dist.all_reduce(one); print(f'fd={one.item() * dist.get_world_size():g}'); dist.destroy_process_group()"
    )
    result, _ = outcome(
        tmp_path,
        distributed("PyTorchJob", ["python", "-c", program], trials=2, parallel=2),
        workers=2,
    )
    assert [trial.metrics for trial in result.trials] == [{"fd": 1.0}] * 2, result.trials[0].reason


def test_hyperband_runs_without_medianstop(tmp_path: Path) -> None:
    plain = manifest.from_document(document("hyperband", trials=9, parallel=9))
    held = document(
        "hyperband",
        trials=9,
        parallel=9,
        early_stopping={"start_step": "1", "min_trials_required": "1"},
    )
    result, _ = outcome(tmp_path / "both", manifest.from_document(held), seed=7)
    expected = run(tmp_path / "plain", plain, seed=7)
    assert [(trial.state, trial.metrics) for trial in result.trials] == [
        (trial.state, trial.metrics) for trial in expected.trials
    ]


def test_command_joins_the_args_of_the_manifest(tmp_path: Path) -> None:
    """Under a TrainJob, whose runtime would give the command."""
    what = distributed("TrainJob", ["gone"], trials=1)
    held: Any = what.document
    trainer = held["spec"]["trialTemplate"]["trialSpec"]["spec"]["trainer"]
    del trainer["command"]
    trainer["args"] = ARGS
    result, _ = outcome(
        tmp_path, manifest.from_document(held), command=["python", "-m", "surface_trial"]
    )
    assert result.trials[0].state is TrialState.SUCCEEDED, result.trials[0].reason
