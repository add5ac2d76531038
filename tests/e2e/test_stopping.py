"""Trials that stop themselves under Pod Security `restricted`, and the winner's files after all pods are gone.

It needs the overlay manifests/overlays/katib-suggestions: without it these tests are skipped.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import kubectl
from tests.e2e.test_suggestion import Lab, search
from tuner.experiment.model import Experiment
from tuner.manifest import from_document
from tuner.result import Result, TrialState

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]
# a curve that falls from twice its end to its end; docs/how-to/early-stopping.md explains `missed`
CURVE = r"""
missed() { echo "$GAN_TUNER_STOP_AT" | tr _ '\n' | awk -v n="$1" -v best="$2" '
  { split($0, at, /[gl]t/); if (at[1] == n && (/gt/ ? best > at[2]+0 : best < at[2]+0)) found = 1 }
  END { exit !found }'; }
awk -v l=${trialParameters.lr} -v b=${trialParameters.bs} 'BEGIN{x=log(l)/log(10)+3.3; if(x<0)x=-x;
  y=(b-64)/16; if(y<0)y=-y; for(n=1;n<7;n++) printf "%d %.6f\n", n, (10+30*x+y)*(1+1/n)}' | while read n v; do
  date -u "+%Y-%m-%dT%H:%M:%S.%NZ fd=$v"; missed $n $v && { date -u "+%Y-%m-%dT%H:%M:%S.%NZ stopped=1"; break; }
  sleep 0.3; done
mkdir -p /output/$KATIB_TRIAL_NAME; echo ${trialParameters.lr} > /output/$KATIB_TRIAL_NAME/lr; sleep 2
"""
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "outputs"},
    "spec": {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    },
}
STOP = {
    "name": "GAN_TUNER_STOP_AT",
    "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['gan-tuner/stop-at']"}},
}


def stopping(trials: int) -> Experiment:
    document: dict[str, Any] = json.loads(
        json.dumps(
            dict(search("stopping", "tpe", CURVE, trials=trials, parallel=1).document), default=dict
        )
    )
    document["metadata"]["annotations"] = {"gan-tuner/stop-factors": '{"2": 1.5, "4": 1.2}'}
    template = document["spec"]["trialTemplate"]
    template["retain"] = False
    pod = template["trialSpec"]["spec"]["template"]["spec"]
    pod["containers"][0] |= {
        "env": [STOP],
        "volumeMounts": [{"name": "output", "mountPath": "/output"}],
    }
    pod["volumes"] = [{"name": "output", "persistentVolumeClaim": {"claimName": "outputs"}}]
    return from_document(document)


def outcomes(result: Result) -> list[tuple[dict[str, Any], TrialState, float]]:
    return [(dict(trial.parameters), trial.state, trial.metrics["fd"]) for trial in result.trials]


def test_cluster_stops_the_local_trials_and_keeps_the_winner(
    make_namespace: Callable[..., str], tmp_path: Path
) -> None:
    namespace = make_namespace("pod-security.kubernetes.io/enforce=restricted")
    kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(CLAIM))
    lab, what = Lab(namespace, tmp_path), replace(stopping(12), namespace=namespace)
    lab.start(what)
    remote, local = lab.finish(what.name), lab.locally(what)
    assert outcomes(remote) == outcomes(local)
    assert sum(trial.state is TrialState.EARLY_STOPPED for trial in remote.trials) >= 3
    trial, [file] = lab.engine.files(what.name, tmp_path / "best")
    assert local.best is not None
    assert trial.number == local.best.number
    assert float((tmp_path / "best" / "lr").read_text()) == trial.parameters["lr"]
    assert file.path == "lr"
