"""The manifests and the chart on a cluster with Katib: `make kind-up e2e`, or KUBECONFIG=... pytest --with-cluster.

Every test works in a namespace of its own and deletes it. The cluster must have the trainer's CPU
image, or be able to
pull it: kind/load-image.sh, or GANTUNER_TRAINER_IMAGE=REPOSITORY:TAG for another one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import kubectl
from tests.manifests import rendering as k8s

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]


def get(kind: str, name: str, namespace: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kubectl("get", kind, name, "-n", namespace, "-o", "json"))
    return found


def items(kind: str, namespace: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(kubectl("get", kind, "-n", namespace, "-o", "json"))[
        "items"
    ]
    return found


def condition(item: dict[str, Any]) -> str:
    """The last condition that is true."""
    true = [
        c["type"] for c in item.get("status", {}).get("conditions", []) if c["status"] == "True"
    ]
    return true[-1] if true else ""


def until(what: str, holds: Callable[[], Any], seconds: float = 600) -> Any:
    """Wait; a deadline that passes says what was waited for."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(2)
    return found


def image() -> str:
    """The trainer's, for CPUs: every test's, also of a manifest for GPUs, since there may be none to compute on."""
    [own] = set(re.findall(r"ghcr\.io/gan-tuner/trainer:\S+", k8s.overlay("cpu")))
    return os.environ.get("GANTUNER_TRAINER_IMAGE", own)


def small(text: str, namespace: str, trials: int = 2, epochs: int = 20) -> dict[str, Any]:
    """The List of what a manifest holds, in another namespace, with a small budget."""
    documents = [d for d in k8s.documents(text) if d["kind"] != "Namespace"]
    for document in documents:
        document["metadata"]["namespace"] = namespace
        if document["kind"] == "Experiment":
            document["spec"] |= {
                "maxTrialCount": trials,
                "parallelTrialCount": 1,
                "maxFailedTrialCount": 1,
            }
            trainer = pod(document)["containers"][0]
            trainer["image"] = image()
            trainer["args"] = [a for a in trainer["args"] if "--epochs" not in a] + [
                f"--epochs={epochs}"
            ]
    return {"apiVersion": "v1", "kind": "List", "items": documents}


def pod(experiment: dict[str, Any]) -> dict[str, Any]:
    """The pod of a trial, to change in place."""
    found: dict[str, Any] = experiment["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"][
        "spec"
    ]
    return found


def apply(manifest: dict[str, Any]) -> None:
    kubectl("apply", "-f", "-", stdin=json.dumps(manifest))


def trial_pods(namespace: str) -> list[dict[str, Any]]:
    return [
        p
        for p in items("pods", namespace)
        if "katib.kubeflow.org/trial" in p["metadata"].get("labels", {})
    ]


def gantune(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tuner", *words]
    return subprocess.run(command, check=False, cwd=k8s.ROOT, capture_output=True, text=True)


def cpu(name: str, folder: Path) -> str:
    """A search through the cpu overlay."""
    shutil.copytree(k8s.MANIFESTS, folder / "manifests")
    file = folder / "manifests" / "base" / "kustomization.yaml"
    file.write_text(file.read_text().replace("- bayes.yaml", f"- {name}.yaml"))
    return k8s.kustomize(folder / "manifests" / "overlays" / "cpu")


def succeeded(name: str, namespace: str) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        experiment = get("experiment", name, namespace)
        assert condition(experiment) != "Failed", json.dumps(experiment["status"], indent=1)
        return experiment if condition(experiment) == "Succeeded" else None

    return dict(until(f"Experiment {name} Succeeded", ended))


@pytest.mark.parametrize("search", k8s.SEARCHES)
def test_gantune_and_katib_name_same_best(search: str, namespace: str, tmp_path: Path) -> None:
    apply(small(cpu(search, tmp_path), namespace))
    name = f"gan-{search}"
    optimal = succeeded(name, namespace)["status"]["currentOptimalTrial"]
    store = ["--store", str(tmp_path / "store")]
    watched = gantune("watch", name, "-n", namespace, *store)
    assert watched.returncode == 0, watched.stderr
    found = json.loads(gantune("best", name, "--format", "json", *store).stdout)
    assert found["name"] == optimal["bestTrialName"]
    named = {p["name"]: p["value"] for p in optimal["parameterAssignments"]}
    assert found["parameters"].keys() == named.keys()
    assert all(same(value, named[name]) for name, value in found["parameters"].items())


def same(value: object, text: str) -> bool:
    """Katib writes numbers its own way: 1e-05 is 0.00001."""
    return float(text) == value if isinstance(value, int | float) else text == value


WRITE_IDX = """
import importlib.resources, io, pathlib, struct, numpy
raw = pathlib.Path("data/MNIST/raw")
raw.mkdir(parents=True, exist_ok=True)
digits = importlib.resources.files("trainer") / "assets" / "digits.npz"
images = numpy.load(io.BytesIO(digits.read_bytes()))["train"][:400, 0]
images = numpy.pad(images.repeat(3, 1).repeat(3, 2), ((0, 0), (2, 2), (2, 2)))  # 28 by 28
labels = numpy.arange(len(images), dtype=numpy.uint8) % 10
for part, rows in (("train", slice(0, 300)), ("t10k", slice(300, 400))):
    for kind, array in (("images-idx3", images[rows]), ("labels-idx1", labels[rows])):
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        (raw / f"{part}-{kind}-ubyte").write_bytes(header + array.tobytes())
"""  # MNIST cannot be downloaded on every cluster


def test_article_trials_read_the_prepared_volume(namespace: str, tmp_path: Path) -> None:
    prepared = small(k8s.search("data/mnist"), namespace)
    [job] = [document for document in prepared["items"] if document["kind"] == "Job"]
    spec = job["spec"]["template"]["spec"]
    [container] = spec["containers"]
    container["image"] = image()
    idx = {**container, "name": "idx", "command": ["python", "-c", WRITE_IDX], "args": []}
    spec["initContainers"] = [idx]
    apply(prepared)
    until(
        "the volume is prepared",
        lambda: get("job", "prepare-mnist", namespace).get("status", {}).get("succeeded"),
    )
    search = small(k8s.search("article/random"), namespace, epochs=1)
    [experiment] = search["items"]
    pod(experiment)["containers"][0]["resources"] = {"requests": {"cpu": "1", "memory": "1Gi"}}
    apply(search)
    succeeded("article-random", namespace)
    watched = gantune("watch", "article-random", "-n", namespace, "--store", str(tmp_path))
    assert watched.returncode == 0, watched.stderr
    best = gantune("best", "article-random", "--format", "json", "--store", str(tmp_path))
    assert {"loss", "fd"} <= json.loads(best.stdout)["metrics"].keys()


def test_the_trial_runs_in_a_restricted_namespace(
    make_namespace: Callable[..., str], tmp_path: Path
) -> None:
    namespace = make_namespace("pod-security.kubernetes.io/enforce=restricted")
    apply(small(cpu("bayes", tmp_path), namespace))
    succeeded("gan-bayes", namespace)


@pytest.fixture
def fake_gpus() -> Iterator[Callable[[int], None]]:
    """Gives the cluster under test so many pretended GPUs; those it had come back. It is none with real ones."""
    cluster = os.environ.get("KUBECONFIG")
    if not cluster:
        pytest.skip(
            "pretended GPUs change a node, and never one of your current context: name the cluster with KUBECONFIG"
        )
    nodes = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    before = 0
    for node in nodes:
        capacity, labels = node["status"]["capacity"], node["metadata"]["labels"]
        if "gan-tuner/fake-gpus" in labels:
            before = int(capacity.get("nvidia.com/gpu", 0))
        elif "nvidia.com/gpu" in capacity or "nvidia.com/gpu.present" in labels:
            pytest.skip(
                f"node {node['metadata']['name']} has nvidia.com/gpu that kind/fake-gpus.sh did not pretend"
            )

    def give(count: int) -> None:
        script = str(k8s.ROOT / "kind" / "fake-gpus.sh")
        subprocess.run(
            [script, str(count)], check=True, env=os.environ | {"GANTUNER_KUBECONFIG": cluster}
        )

    yield give
    give(before)


def test_gpu_manifest_needs_the_simulated_pool(
    namespace: str, fake_gpus: Callable[[int], None], tmp_path: Path
) -> None:
    fake_gpus(0)
    apply(small(k8s.overlay("generic"), namespace, trials=1))

    def refused() -> bool:
        pods = {p["metadata"]["name"] for p in trial_pods(namespace)}
        events = [e for e in items("events", namespace) if e["reason"] == "FailedScheduling"]
        return any(e["involvedObject"]["name"] in pods for e in events)

    until("the event that says why the trial's pod is pending", refused, 180)
    watched = gantune(
        "watch", "gan-bayes", "-n", namespace, "--timeout", "90", "--store", str(tmp_path / "store")
    )
    assert watched.returncode == 5, watched.stderr
    assert "Unschedulable: " in watched.stdout + watched.stderr
    fake_gpus(1)
    succeeded("gan-bayes", namespace)


def test_a_trial_killed_in_the_middle_resumes(namespace: str) -> None:
    manifest = small(
        k8s.overlay("spot").replace("ReadWriteMany", "ReadWriteOnce"),
        namespace,
        trials=1,
        epochs=600,
    )
    [experiment] = [d for d in manifest["items"] if d["kind"] == "Experiment"]
    pod(experiment)["nodeSelector"] = {"kubernetes.io/os": "linux"}  # any node will do, and no GPU
    pod(experiment)["containers"][0]["resources"] = {
        "requests": {"cpu": "500m", "memory": "512Mi"},
        "limits": {"cpu": "1", "memory": "1Gi"},
    }
    apply(manifest)

    def working(but: str = "") -> tuple[str, str] | None:
        """A running pod of the trial, and the first metric line of its log."""
        for found in trial_pods(namespace):
            name = found["metadata"]["name"]
            if name != but and found["status"]["phase"] == "Running":
                log = kubectl("logs", name, "-c", "trainer", "-n", namespace, check=False)
                if lines := [
                    line for line in log.splitlines() if " epoch=" in line and " fd=" in line
                ]:
                    return name, lines[0]
        return None

    first, told = until("the first evaluation", working)
    # An eviction sets DisruptionTarget, as a preempted node does; plain deletion would too, but
    # says less.
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": first, "namespace": namespace},
    }
    path = f"/api/v1/namespaces/{namespace}/pods/{first}/eviction"
    kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    _, retold = until("the second pod's first evaluation", lambda: working(but=first))
    assert retold == told, (
        "a resumed trainer tells its story from the start, times included; a new one has other times"
    )
    succeeded("gan-bayes", namespace)
    [trial] = items("trials", namespace)
    assert condition(trial) == "Succeeded"


CHART = str(k8s.ROOT / "charts" / "gan-tuner")


def run_helm(helm: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([k8s.tool(helm), *words], check=False, capture_output=True, text=True)


class Release:
    """The release gan in one namespace: a small search on CPUs, by one version of Helm."""

    def __init__(self, helm: str, namespace: str) -> None:
        self.helm, self.namespace = helm, namespace
        repository, _, tag = image().rpartition(":")
        budget = [f"experiments.bayes.budget.{count}" for count in ("parallel=1", "maxFailed=1")]
        self.common = [
            f"--set={pair}"
            for pair in ("gpu.pool=none", f"image.repository={repository}", f"image.tag={tag}")
        ]
        self.common += [f"--set={pair}" for pair in budget]

    def __call__(self, verb: str, *words: str) -> None:
        done = run_helm(self.helm, verb, "gan", *words, f"--namespace={self.namespace}")
        assert done.returncode == 0, done.stdout + done.stderr

    def put(self, verb: str, *pairs: str, trials: int = 2) -> subprocess.CompletedProcess[str]:
        """Install or upgrade with a few values."""
        values = [
            *self.common,
            f"--set=experiments.bayes.budget.trials={trials}",
            *(f"--set={pair}" for pair in pairs),
        ]
        return run_helm(self.helm, verb, "gan", CHART, f"--namespace={self.namespace}", *values)

    def searches(self) -> list[str]:
        return [e["metadata"]["name"] for e in items("experiments", self.namespace)]


@pytest.mark.parametrize("helm", ["helm", "helm4"])
def test_chart_lifecycle_from_install_to_uninstall(helm: str, namespace: str) -> None:
    release = Release(helm, namespace)
    done = release.put("install", "experiments.bayes.args={--epochs=20}")
    assert done.returncode == 0, done.stderr
    [first] = release.searches()
    succeeded(first, namespace)
    release("test")
    done = release.put("upgrade", "experiments.bayes.args={--epochs=30}")
    assert done.returncode == 0, done.stderr
    until(
        "a new search in place of the old",
        lambda: release.searches() and first not in release.searches(),
    )
    release("rollback", "1")
    until("the first search again", lambda: release.searches() == [first])
    release("uninstall")
    until("no search left", lambda: not release.searches())
    until("no pod left", lambda: not items("pods", namespace), 180)


@pytest.mark.parametrize("helm", ["helm", "helm4"])
def test_finished_search_accepts_more_trials_only(helm: str, namespace: str) -> None:
    release = Release(helm, namespace)
    args = ("experiments.bayes.resumePolicy=LongRunning", "experiments.bayes.args={--epochs=20}")
    done = release.put("install", *args)
    assert done.returncode == 0, done.stderr
    [name] = release.searches()
    succeeded(name, namespace)
    assert "greater than the 2 trials" in release.put("upgrade", *args, trials=1).stderr
    done = release.put("upgrade", *args, trials=3)
    assert done.returncode == 0, done.stderr
    assert release.searches() == [name]
    until("a third trial", lambda: len(items("trials", namespace)) == 3)
    succeeded(name, namespace)


@pytest.mark.parametrize("helm", ["helm", "helm4"])
def test_namespace_without_katib_label_is_refused(helm: str) -> None:
    absent = f"gantune-e2e-{uuid.uuid4().hex[:8]}"
    try:
        done = run_helm(
            helm, "install", "gan", CHART, f"--namespace={absent}", "--create-namespace"
        )
        assert done.returncode != 0
        assert f"kubectl label namespace {absent}" in done.stderr
    finally:
        kubectl("delete", "namespace", absent, "--ignore-not-found", "--wait=false")
