"""What the client says on a real cluster about trials that fail, do not start, or may not be read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import kubectl
from tests.e2e.test_client import experiment
from tuner.engines.base import EventKind
from tuner.engines.katib import KatibEngine
from tuner.errors import Forbidden
from tuner.experiment.model import Experiment
from tuner.kube import Cluster
from tuner.result import StudyState
from tuner.store.studies import Store

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
USED = ": ${trialParameters.lr} ${trialParameters.bs}"


def one_trial(name: str, command: str) -> Experiment:
    return experiment(
        name, f"{USED}; {command}", maxTrialCount=1, maxFailedTrialCount=1, parallelTrialCount=1
    )


@pytest.fixture
def engine(namespace: str, tmp_path: Path) -> KatibEngine:
    return KatibEngine(
        Cluster.connect(), Store(tmp_path / "store"), namespace=namespace, timeout=240
    )


def test_deadline_is_the_reason(engine: KatibEngine) -> None:
    body = one_trial("late", "sleep 300")
    body.template.spec["spec"]["activeDeadlineSeconds"] = 10
    result = list(engine.run(body))[-1].result
    assert [trial.reason for trial in result.trials] == [
        "Job was active longer than specified deadline"
    ]


def test_missing_metrics_file_is_the_reason(engine: KatibEngine) -> None:
    name = engine.submit(one_trial("unwritten", "sleep 5"))
    result = list(engine.watch(name))[-1].result
    [trial] = result.trials
    assert trial.reason.startswith(
        "the metrics collector failed: the metrics file was never written"
    )
    assert any("/var/log/katib/metrics.log" in line for line in engine.logs(name, "0"))


def test_quota_names_the_missing_limits(engine: KatibEngine, namespace: str) -> None:
    kubectl("create", "quota", "cpu", "-n", namespace, "--hard=limits.cpu=4")
    name = engine.submit(one_trial("unlimited", "sleep 5"))
    said = next(event.message for event in engine.watch(name) if "must specify" in event.message)
    assert "set the requests and limits that the quota asks for" in said
    engine.delete(name)


def test_reader_of_experiments_stores_nothing(
    engine: KatibEngine, namespace: str, tmp_path: Path, kubeconfig_of: Callable[[str], Path]
) -> None:
    name = engine.submit(experiment("seen", maxTrialCount=2))
    assert list(engine.watch(name))[-1].result.state is StudyState.SUCCEEDED
    kubectl(
        "create",
        "role",
        "reader",
        "-n",
        namespace,
        "--verb=get,list,watch",
        "--resource=experiments.kubeflow.org",
    )
    kubectl("create", "serviceaccount", "reader", "-n", namespace)
    kubectl(
        "create",
        "rolebinding",
        "reader",
        "-n",
        namespace,
        "--role=reader",
        f"--serviceaccount={namespace}:reader",
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("KUBECONFIG", str(kubeconfig_of("reader")))
        limited = KatibEngine(
            Cluster.connect(), Store(tmp_path / "other"), namespace=namespace, timeout=60
        )
        with pytest.raises(Forbidden, match=r'resources: \["trials"\]'):
            list(limited.watch(name))
    assert limited.store.names() == []
    assert [event.kind for event in engine.watch(name)][-1] is EventKind.STUDY_ENDED


@pytest.fixture
def kubeconfig_of(namespace: str, tmp_path: Path) -> Callable[[str], Path]:
    """Writes a kubeconfig with the token of a ServiceAccount of the namespace."""

    def write(account: str) -> Path:
        view = json.loads(kubectl("config", "view", "--minify", "--flatten", "-o", "json"))
        cluster = view["clusters"][0]["cluster"]
        token = kubectl("create", "token", account, "-n", namespace).strip()
        body = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": cluster}],
            "users": [{"name": account, "user": {"token": token}}],
            "contexts": [
                {
                    "name": "here",
                    "context": {"cluster": "here", "user": account, "namespace": namespace},
                }
            ],
            "current-context": "here",
        }
        path = tmp_path / f"{account}.kubeconfig"
        path.write_text(json.dumps(body))
        return path

    return write
