"""The client on a real cluster with Katib 0.19: submit, watch, collect, curves, logs, stop, delete.

Trials are shell loops of a few seconds in GANTUNE_E2E_IMAGE (default busybox:1.37), so that no GPU
is needed.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tuner.engines.base import EventKind
from tuner.engines.katib import KatibEngine
from tuner.engines.katib.services import Kind
from tuner.errors import Denied, NotFound, StudyChanged
from tuner.experiment.model import Experiment
from tuner.kube import EXPERIMENTS, TRIALS, Cluster
from tuner.manifest import from_document
from tuner.result import StudyState, TrialState
from tuner.store import curves
from tuner.store.studies import Store

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
IMAGE = os.environ.get("GANTUNE_E2E_IMAGE", "busybox:1.37")
LOOP = (
    "for i in 1 2 3; do awk -v l=${trialParameters.lr} -v b=${trialParameters.bs} -v i=$i "
    "'BEGIN{printf \"2026-01-01T00:00:0%d.250000Z fd=%.4f\\n\", i, 13-i+(l*1000-0.5)^2+(b-64)^2/4096}' "
    ">> /var/log/katib/metrics.log; sleep 2; done"
)


def experiment(name: str, command: str = LOOP, **spec: Any) -> Experiment:
    secure = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    pod = {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "trainer",
        "image": IMAGE,
        "command": ["sh", "-c"],
        "args": [f"({command})"],
    }
    template = {
        "primaryContainerName": "trainer",
        "retain": True,
        "trialParameters": [{"name": "lr", "reference": "lr"}, {"name": "bs", "reference": "bs"}],
        "trialSpec": {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "spec": {
                "backoffLimit": 0,
                "template": {
                    "spec": {
                        "restartPolicy": "Never",
                        "securityContext": pod,
                        "containers": [container | {"securityContext": secure}],
                    }
                },
            },
        },
    }
    body = {
        "objective": {
            "type": "minimize",
            "objectiveMetricName": "fd",
            "metricStrategies": [{"name": "fd", "value": "latest"}],
        },
        "algorithm": {"algorithmName": "random"},
        "parallelTrialCount": 2,
        "maxTrialCount": 4,
        "maxFailedTrialCount": 2,
        "resumePolicy": "Never",
        "parameters": [
            {
                "name": "lr",
                "parameterType": "double",
                "feasibleSpace": {"min": "0.00001", "max": "0.01", "distribution": "logUniform"},
            },
            {"name": "bs", "parameterType": "int", "feasibleSpace": {"min": "32", "max": "128"}},
        ],
        "metricsCollectorSpec": {
            "collector": {"kind": "File"},
            "source": {
                "fileSystemPath": {
                    "path": "/var/log/katib/metrics.log",
                    "kind": "File",
                    "format": "TEXT",
                }
            },
        },
        "trialTemplate": template,
    }
    document = {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Experiment",
        "metadata": {"name": name},
    }
    return from_document(document | {"spec": body | spec})


@pytest.fixture
def engine(namespace: str, tmp_path: Path) -> KatibEngine:
    return KatibEngine(Cluster.connect(), Store(tmp_path), namespace=namespace, timeout=400)


def test_search_from_submit_to_delete(engine: KatibEngine, namespace: str) -> None:
    name = engine.submit(experiment("search"))
    events = list(engine.watch(name))
    result = events[-1].result
    assert result.state is StudyState.SUCCEEDED
    assert [trial.state for trial in result.trials] == [TrialState.SUCCEEDED] * 4
    for trial in result.trials:
        lr, bs = float(trial.parameters["lr"]), int(trial.parameters["bs"])
        assert math.isclose(
            trial.metrics["fd"], 10 + (lr * 1000 - 0.5) ** 2 + (bs - 64) ** 2 / 4096, abs_tol=1e-3
        )
    held = engine.cluster.get(EXPERIMENTS, name, namespace=namespace)
    assert result.best is not None
    assert held["status"]["currentOptimalTrial"]["bestTrialName"] == result.best.name
    stored = curves.read(engine.store.folder(name))[result.best.name]
    assert sum(map(len, stored.values())) == 3
    # joined, after the real webhook's defaulting
    assert engine.submit(experiment("search")) == name
    with pytest.raises(StudyChanged, match=r"spec\.algorithm\.algorithmName"):
        engine.submit(experiment("search", algorithm={"algorithmName": "tpe"}))
    list(engine.logs(name, best=True))
    engine.delete(name)
    _await_gone(engine, name)
    assert engine.store.result(name) == result
    # the name is free again, and the old results are kept
    assert engine.submit(experiment("search")) == name
    assert engine.store.result(f"{name}.1").trials == result.trials


def test_stop_ends_running_trials_only(engine: KatibEngine, namespace: str) -> None:
    name = engine.submit(experiment("stopped", maxTrialCount=50, maxFailedTrialCount=50))
    for event in engine.watch(name):
        if event.kind is EventKind.TRIAL_ENDED:
            break
    engine.stop(name)
    last = list(engine.watch(name))[-1].result
    assert last.state is StudyState.STOPPED
    left = list(engine.cluster.list(TRIALS, namespace=namespace))
    assert 0 < len(left) < 10
    assert engine.store.result(name).best is not None


def test_stop_holds_without_a_max_trial_count(engine: KatibEngine, namespace: str) -> None:
    """Katib restarts whatever has finished without one: what was stopped must stay so, and make no more trials."""
    endless = experiment("endless", maxFailedTrialCount=None)
    del endless.document["spec"]["maxTrialCount"], endless.document["spec"]["maxFailedTrialCount"]
    name = engine.submit(from_document(endless.document))
    for event in engine.watch(name):
        if event.kind is EventKind.TRIAL_ENDED:
            break
    engine.stop(name)
    count = len(engine.store.result(name).trials)
    time.sleep(30)
    result = engine.result(name)
    assert result.state is StudyState.STOPPED
    assert len(result.trials) == count
    assert all(trial.state.finished for trial in result.trials)


def test_nan_stall_is_reported(engine: KatibEngine) -> None:
    """Katib's own services stall on a NaN. The suggestion service of gan-tuner does not."""
    nan = "echo fd=nan >> /var/log/katib/metrics.log; sleep 5"
    body = experiment("stall", f"{nan}; : ${{trialParameters.lr}} ${{trialParameters.bs}}")
    name = engine.submit(body)
    if Kind.STOCK.value not in engine.served:
        engine.delete(name)
        pytest.skip(
            f"{engine.served}: this needs one of Katib's own services (manifests/overlays/katib)"
        )
    _await_warning(engine, name, "the suggestion service fails on a trial without a finite fd")
    engine.stop(name)


def test_gpu_shortage_is_reported(engine: KatibEngine) -> None:
    body = experiment("starved")
    container = body.template.spec["spec"]["template"]["spec"]["containers"][0]
    container["resources"] = {"limits": {"example.com/none": 1}}
    _await_warning(engine, engine.submit(body), "Insufficient example.com/none")


def test_unlabelled_namespace_is_refused(engine: KatibEngine, namespace: str) -> None:
    from tests.e2e.conftest import kubectl

    kubectl("label", "namespace", namespace, "katib.kubeflow.org/metrics-collector-injection-")
    with pytest.raises(Denied, match="kubectl label namespace"):
        engine.submit(experiment("unlabelled"))


def _await_warning(engine: KatibEngine, name: str, words: str) -> None:
    """Raises Deadline where the watch never warns so."""
    said = (event.message for event in engine.watch(name) if event.kind is EventKind.WARNING)
    assert any(words in message for message in said)


def _await_gone(engine: KatibEngine, name: str) -> None:
    """Katib's finalizer holds a deleted Experiment for a second or two."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            engine.cluster.get(EXPERIMENTS, name, namespace=engine.namespace)
        except NotFound:
            return
        time.sleep(0.5)
    raise AssertionError(f"{name} is still there")
