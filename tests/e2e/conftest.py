"""A namespace of its own for each test, deleted at the end; logs and events are kept when the test fails."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.manifests import rendering as k8s

LABEL = "katib.kubeflow.org/metrics-collector-injection=enabled"
KEPT = Path("e2e-logs")


def kubectl(*words: str, check: bool = True, stdin: str | None = None) -> str:
    """Run kubectl on the cluster that KUBECONFIG names; its output."""
    command = [k8s.tool("kubectl"), *words]
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=120, check=False
    )
    if check and done.returncode:
        raise AssertionError(f"kubectl {' '.join(words)}: {done.stderr}")
    return done.stdout


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Let the fixture know how the test went."""
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


FAILED = pytest.StashKey[bool]()


@pytest.fixture
def make_namespace(request: pytest.FixtureRequest) -> Iterator[Callable[..., str]]:
    """Makes a namespace with Katib's label and others; what it held is kept when the test fails, and it is deleted."""
    made: list[str] = []

    def make(*labels: str) -> str:
        name = f"gantune-e2e-{uuid.uuid4().hex[:8]}"
        kubectl("create", "namespace", name)
        made.append(name)
        kubectl("label", "namespace", name, LABEL, *labels)
        return name

    try:
        yield make
        if request.node.stash.get(FAILED, False):
            for name in made:
                _keep(name, f"{request.node.name}-{name}")
    finally:
        for name in made:
            kubectl("delete", "namespace", name, "--wait=false", check=False)


@pytest.fixture
def namespace(make_namespace: Callable[..., str]) -> str:
    """A labelled namespace."""
    return make_namespace()


def _keep(namespace: str, test: str) -> None:
    """Everything of the namespace that says why, under e2e-logs/TEST/."""
    folder = KEPT / "".join(c if c.isalnum() else "-" for c in test)
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("experiments,trials,suggestions", "jobs,pods,deployments,replicasets", "events"):
        text = kubectl("get", kind, "-n", namespace, "-o", "yaml", check=False)
        (folder / f"{kind.split(',')[0]}.yaml").write_text(text)
    for pod in kubectl("get", "pods", "-n", namespace, "-o", "name", check=False).split():
        text = kubectl("logs", "-n", namespace, pod, "--all-containers", "--prefix", check=False)
        (folder / f"{pod.replace('/', '-')}.log").write_text(text)
