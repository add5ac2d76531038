"""`gantune confirm` on a real cluster: the best trials of a search are trained again on new seeds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import kubectl
from tests.e2e.test_client import experiment
from tuner.engines.katib import KatibEngine
from tuner.kube import Cluster
from tuner.result import StudyState
from tuner.store.studies import Store

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
NOISY = (  # the value is that of the search, plus a hundredth of the seed
    "set -- --seed=0; awk -v l=${trialParameters.lr} -v b=${trialParameters.bs} -v s=${1#--seed=} "
    "'BEGIN{printf \"fd=%.6f\\n\", 10+l*1000+b/100+s/100}'; sleep 3"
)


def test_confirm_runs_on_the_cluster(namespace: str, tmp_path: Path) -> None:
    engine = KatibEngine(
        Cluster.connect(), Store(tmp_path / "store"), namespace=namespace, timeout=400
    )
    name = engine.submit(
        experiment("noisy", NOISY, metricsCollectorSpec={"collector": {"kind": "StdOut"}})
    )
    searched = list(engine.watch(name))[-1].result
    assert searched.state is StudyState.SUCCEEDED
    place = ["-n", namespace, "--store", str(tmp_path / "store")]
    written = tmp_path / "confirm.yaml"
    gantune("confirm", name, "--top", "2", "--seeds", "3", "-o", str(written), *place)
    kubectl("apply", "-n", namespace, "-f", str(written))
    kubectl(
        "wait", "-n", namespace, "-f", str(written), "--for=condition=Succeeded", "--timeout=110s"
    )
    found = json.loads(gantune("confirm", name, "--top", "2", "--show", "--format", "json", *place))
    assert len(found["ranked"]) == 2
    for each in found["ranked"]:
        [first] = [trial for trial in searched.trials if trial.number == each["trial"]]
        assert len(each["values"]) == 3
        assert len(set(each["values"])) == 3
        assert all(0 < value - first.metrics["fd"] < 0.2 for value in each["values"])


def gantune(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tuner", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
