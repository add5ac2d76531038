"""What `tuner.run` and `gantune run` take: a path, a dict, a model of kubeflow-katib, standard input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tuner
from tests.tuner.experiments import TRIALS, document
from tuner.errors import GantuneError, ManifestError


def small() -> dict[str, Any]:
    return document(trials=2, parallel=1)


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TRIALS)


def test_run_takes_an_object(tmp_path: Path) -> None:
    given = small()
    before = json.dumps(given)
    assert len(tuner.Client(tmp_path).run(given, local=True).trials) == 2
    assert json.dumps(given) == before


def test_run_refuses_an_object_with_an_error(tmp_path: Path) -> None:
    given = small()
    given["spec"]["parallelTrialCount"] = 0
    with pytest.raises(ManifestError, match=r"^spec\.parallelTrialCount must be at least 1, got 0"):
        tuner.Client(tmp_path).run(given, local=True)
    with pytest.raises(ManifestError, match=r"^no Experiment \(kubeflow"):
        tuner.Client(tmp_path).run({"kind": "Pod"}, local=True)
    with pytest.raises(
        GantuneError, match="an Experiment is a path, a dict or a V1beta1Experiment, got int"
    ):
        tuner.run(3, local=True)


def model() -> Any:
    """The Experiment as kubeflow-katib and kubernetes make it."""
    katib, k8s = pytest.importorskip("kubeflow.katib"), pytest.importorskip("kubernetes.client")
    spec = small()["spec"]
    main = spec["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0]
    container = k8s.V1Container(name="main", image="x", command=main["command"], args=main["args"])
    pod = k8s.V1PodTemplateSpec(spec=k8s.V1PodSpec(restart_policy="Never", containers=[container]))
    job = k8s.V1Job(api_version="batch/v1", kind="Job", spec=k8s.V1JobSpec(template=pod))
    ranges = {"lr": ("double", "1e-4", "1e-2"), "bs": ("int", "32", "64")}
    parameters = [
        katib.V1beta1ParameterSpec(
            name=name,
            parameter_type=kind,
            feasible_space=katib.V1beta1FeasibleSpace(min=low, max=high),
        )
        for name, (kind, low, high) in ranges.items()
    ]
    references = [katib.V1beta1TrialParameterSpec(name=name, reference=name) for name in ranges]
    template = katib.V1beta1TrialTemplate(
        primary_container_name="main", trial_parameters=references, trial_spec=job
    )
    return katib.V1beta1Experiment(
        api_version="kubeflow.org/v1beta1",
        kind="Experiment",
        metadata=k8s.V1ObjectMeta(name="model"),
        spec=katib.V1beta1ExperimentSpec(
            objective=katib.V1beta1ObjectiveSpec(type="minimize", objective_metric_name="fd"),
            algorithm=katib.V1beta1AlgorithmSpec(algorithm_name="random"),
            parallel_trial_count=1,
            max_trial_count=2,
            parameters=parameters,
            trial_template=template,
        ),
    )


def test_run_takes_a_model_of_kubeflow_katib(tmp_path: Path) -> None:
    result = tuner.Client(tmp_path).run(model(), local=True, seed=1)
    assert [trial.state.value for trial in result.trials] == ["Succeeded"] * 2


MANIFESTS = Path(__file__).parents[2] / "manifests"


@pytest.mark.parametrize(
    "path",
    sorted([*MANIFESTS.glob("*.yaml"), *MANIFESTS.glob("article/*.yaml")]),
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_manifest_becomes_a_model_without_loss(path: Path) -> None:
    katib, k8s = pytest.importorskip("kubeflow.katib"), pytest.importorskip("kubernetes.client")
    made = tuner.to_katib(path)
    assert isinstance(made, katib.V1beta1Experiment)
    assert isinstance(made.metadata, k8s.V1ObjectMeta)
    assert isinstance(made.spec.parameters[0].feasible_space, katib.V1beta1FeasibleSpace)
    # KatibClient.create_experiment sends this
    assert k8s.ApiClient().sanitize_for_serialization(made) == tuner.load(path).document


def test_model_runs_as_its_manifest(tmp_path: Path) -> None:
    pytest.importorskip("kubeflow.katib")
    found = [
        tuner.Client(tmp_path / str(i)).run(source, local=True, seed=1).trials
        for i, source in enumerate((small(), tuner.to_katib(small())))
    ]
    assert [t.parameters for t in found[0]] == [t.parameters for t in found[1]]
    assert [t.metrics["fd"] for t in found[0]] == [t.metrics["fd"] for t in found[1]]


def test_run_reads_standard_input(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "tuner", "run", "-", "--local", "--store", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(TRIALS.parents[2])}

    def run(text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            line, input=text, capture_output=True, text=True, env=environment, check=False
        )

    good = run(json.dumps(small()))
    assert good.returncode == 0, good.stderr
    bad = run("kind: Pod")
    assert bad.returncode == 2
    assert bad.stderr == "gantune: error: <stdin>:1: no Experiment (kubeflow.org/v1beta1) found\n"
