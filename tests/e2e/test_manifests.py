"""The manifests and the chart on a cluster with Katib: `make kind-up e2e`, or KUBECONFIG=... pytest --with-cluster.

Every test works in a namespace of its own and deletes it. The images must be in the cluster (kind/load-image.sh).
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.manifests import rendering as k8s

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]
LABEL = "katib.kubeflow.org/metrics-collector-injection=enabled"


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    """Standard output; a failure shows what kubectl said."""
    command = [k8s.tool("kubectl"), *arguments]
    done = subprocess.run(command, check=False, input=stdin, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
    return done.stdout


def get(kind: str, name: str, namespace: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kubectl("get", kind, name, "-n", namespace, "-o", "json"))
    return found


def items(kind: str, namespace: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(kubectl("get", kind, "-n", namespace, "-o", "json"))["items"]
    return found


def condition(item: dict[str, Any]) -> str:
    """The last condition that is true."""
    true = [c["type"] for c in item.get("status", {}).get("conditions", []) if c["status"] == "True"]
    return true[-1] if true else ""


def until(what: str, holds: Callable[[], Any], seconds: float = 600) -> Any:
    """Wait; a deadline that passes says what was waited for."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(2)
    return found


@contextlib.contextmanager
def scratch(*labels: str) -> Iterator[str]:
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    try:
        kubectl("label", "namespace", name, LABEL, *labels)
        yield name
    finally:
        kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def namespace() -> Iterator[str]:
    with scratch() as name:
        yield name


def small(text: str, namespace: str, trials: int = 2, epochs: int = 20) -> str:
    """What a manifest holds, in another namespace, with a small budget."""
    documents = [d for d in k8s.documents(text) if d["kind"] != "Namespace"]
    for document in documents:
        document["metadata"]["namespace"] = namespace
        if document["kind"] == "Experiment":
            spec = document["spec"]
            spec |= {"maxTrialCount": trials, "parallelTrialCount": 1, "maxFailedTrialCount": 1}
            trainer = spec["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0]
            trainer["args"] = [a for a in trainer["args"] if "--epochs" not in a] + [f"--epochs={epochs}"]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})


def cpu(name: str, folder: Path) -> str:
    """A search through the cpu overlay."""
    shutil.copytree(k8s.MANIFESTS, folder / "manifests")
    file = folder / "manifests" / "base" / "kustomization.yaml"
    file.write_text(file.read_text().replace("- bayes.yaml", f"- {name}.yaml"))
    return kubectl("kustomize", str(folder / "manifests" / "overlays" / "cpu"))


def succeeded(name: str, namespace: str) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        experiment = get("experiment", name, namespace)
        assert condition(experiment) != "Failed", json.dumps(experiment["status"], indent=1)
        return experiment if condition(experiment) == "Succeeded" else None

    return dict(until(f"Experiment {name} Succeeded", ended))


@pytest.mark.parametrize("search", k8s.SEARCHES)
def test_a_manifest_succeeds_and_gantune_names_the_best_trial_that_katib_names(
    search: str, namespace: str, tmp_path: Path
) -> None:
    kubectl("apply", "-f", "-", stdin=small(cpu(search, tmp_path), namespace))
    name = f"gan-{search}"
    optimal = succeeded(name, namespace)["status"]["currentOptimalTrial"]
    store = ["--store", str(tmp_path / "store")]
    gantune = [sys.executable, "-m", "tuner"]
    watch = [*gantune, "watch", name, "-n", namespace, *store]
    subprocess.run(watch, check=True, cwd=k8s.ROOT, capture_output=True)
    best = [*gantune, "best", name, "--format", "json", *store]
    found = json.loads(subprocess.run(best, check=True, cwd=k8s.ROOT, capture_output=True, text=True).stdout)
    assert found["name"] == optimal["bestTrialName"]
    named = {p["name"]: p["value"] for p in optimal["parameterAssignments"]}
    assert found["parameters"].keys() == named.keys()
    assert all(same(value, named[name]) for name, value in found["parameters"].items())


def same(value: object, text: str) -> bool:
    """Katib writes numbers its own way: 1e-05 is 0.00001."""
    return float(text) == value if isinstance(value, int | float) else text == value


def test_the_trial_runs_in_a_restricted_namespace(tmp_path: Path) -> None:
    with scratch("pod-security.kubernetes.io/enforce=restricted") as namespace:
        kubectl("apply", "-f", "-", stdin=small(cpu("bayes", tmp_path), namespace))
        succeeded("gan-bayes", namespace)


def test_a_gpu_manifest_is_scheduled_on_the_pretended_pool_and_unschedulable_without(namespace: str) -> None:
    fake = str(k8s.ROOT / "kind" / "fake-gpus.sh")
    # The GPU overlay with the CPU image: there is no GPU to compute on, only one to be scheduled on.
    text = k8s.overlay("generic").replace("-cuda", "-cpu")
    subprocess.run([fake, "0"], check=False, capture_output=True)
    try:
        kubectl("apply", "-f", "-", stdin=small(text, namespace, trials=1))

        def refused() -> bool:
            events = items("events", namespace)
            return any(e["reason"] == "FailedScheduling" for e in events)

        until("the reason why the pod is pending", refused, 180)
        subprocess.run([fake, "1"], check=True)
        succeeded("gan-bayes", namespace)
    finally:
        subprocess.run([fake], check=True)


def test_a_trial_killed_in_the_middle_resumes(namespace: str) -> None:
    text = k8s.overlay("spot").replace("-cuda", "-cpu").replace("ReadWriteMany", "ReadWriteOnce")
    manifest = json.loads(small(text, namespace, trials=1, epochs=600))
    kubectl("apply", "-f", "-", stdin=json.dumps(manifest))

    def working() -> str | None:
        pods = [p for p in items("pods", namespace) if "katib.kubeflow.org/trial" in p["metadata"]["labels"]]
        names = [p["metadata"]["name"] for p in pods if p["status"]["phase"] == "Running"]
        if not names:
            return None
        log = kubectl("logs", names[0], "-c", "trainer", "-n", namespace)
        return names[0] if "epoch=" in log and "fd=" in log else None

    pod = until("the first evaluation", working)
    # An eviction sets DisruptionTarget, as a preempted node does; plain deletion would too, but says less.
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    until("the pod is gone", lambda: pod not in [p["metadata"]["name"] for p in items("pods", namespace)])
    second = until("the second pod", working)
    assert second != pod
    first_step = kubectl("logs", second, "-c", "trainer", "-n", namespace).split("step=")[1].split()[0]
    assert int(first_step) > 0
    succeeded("gan-bayes", namespace)
    [trial] = items("trials", namespace)
    assert condition(trial) == "Succeeded"


def test_the_chart_is_installed_upgraded_tested_rolled_back_and_uninstalled(namespace: str) -> None:
    helm = k8s.tool("helm")
    chart = str(k8s.ROOT / "charts" / "gan-tuner")
    budget = [f"--set=experiments.bayes.budget.{count}" for count in ("trials=2", "parallel=1", "maxFailed=1")]
    common = [f"--namespace={namespace}", "--set=gpu.pool=none", *budget]
    subprocess.run([helm, "install", "gan", chart, *common, "--set=experiments.bayes.args={--epochs=20}"], check=True)

    def names() -> list[str]:
        return [e["metadata"]["name"] for e in items("experiments", namespace)]

    [first] = names()
    succeeded(first, namespace)
    subprocess.run([helm, "test", "gan", f"--namespace={namespace}"], check=True)
    subprocess.run([helm, "upgrade", "gan", chart, *common, "--set=experiments.bayes.args={--epochs=30}"], check=True)
    until("a new search in place of the old", lambda: names() and names() != [first])
    subprocess.run([helm, "rollback", "gan", "1", f"--namespace={namespace}"], check=True)
    until("the first search again", lambda: names() == [first])
    subprocess.run([helm, "uninstall", "gan", f"--namespace={namespace}"], check=True)
    until("nothing left", lambda: not names())
