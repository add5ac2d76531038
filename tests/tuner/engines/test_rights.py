"""The rights that docs/reference/katib.md lists are those that the client uses: each request of every verb has its rule."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from ruamel.yaml import YAML

import tuner
from tests.tuner.clusters import FastClock
from tests.tuner.engines.katib.test_details import RUNNING_FROM
from tests.tuner.engines.katib.test_files import fill
from tests.tuner.loopback import RESPONSES, Loopback

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "katib.md"
Right = tuple[str, str, str]  # API group, resource, verb


def documented() -> set[Right]:
    (block,) = re.findall(
        r"```yaml\n(# in the Experiment.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL
    )
    return {
        (group, resource, verb)
        for rule in YAML(typ="safe").load(block)
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def right(method: str, path: str) -> Right:
    """What RBAC asks for this request."""
    url = urlsplit(path)
    parts = url.path.strip("/").split("/")
    group, rest = (parts[1], parts[3:]) if parts[0] == "apis" else ("", parts[2:])
    if rest[0] == "namespaces" and len(rest) > 2:
        rest = rest[2:]
    plural, name, sub = [*rest, "", ""][:3]
    reads = "watch" if "watch=1" in url.query else "get" if name else "list"
    verb = {"GET": reads, "POST": "create", "PATCH": "patch", "DELETE": "delete"}[method]
    return group, f"{plural}/{sub}" if sub else plural, verb


@pytest.fixture
def used(
    server: Loopback, kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> set[Right]:
    """The rights that all verbs used, on searches that end, stall and are stopped."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tuner.kube.dbmanager._TIMEOUT", 0.1)
    manager = {"name": "katib-db-manager-1", "namespace": "kubeflow"}
    labels = {"katib.kubeflow.org/component": "db-manager"}
    server.put("pods", {"metadata": manager | {"labels": labels}, "status": {"phase": "Running"}})
    server.answer("GET", "/portforward", 503, "no")
    (tmp_path / "made.yaml").write_text(
        json.dumps(copy.deepcopy(RESPONSES["create-201"]["request"]["body"]))
    )
    tuner.submit("made.yaml")
    for number, _ in enumerate(server.steps("random-ok")):
        if number == RUNNING_FROM:
            tuner.status("random-ok")
            tuner.Client(notify=lambda message: None).refresh("random-ok", curves=True)
    list(tuner.watch("random-ok"))
    list(tuner.logs("random-ok", "random-ok-2p7hm8wp"))
    for stalled in ("suspended-jobs", "restricted-early-stopping", "nan-objective"):
        server.replay(stalled)
        engine = tuner.Client(".gantune").cluster()
        engine.timeout, engine.clock = 75, FastClock()
        with pytest.raises(tuner.errors.Deadline):
            list(engine.watch(stalled))
    fill(server)
    engine = tuner.Client(".gantune").cluster()
    engine.clock = FastClock(1000)
    with pytest.raises(tuner.errors.Timeout):  # nothing runs its pod
        engine.files("big", tmp_path / "files")
    server.replay("bad-setting")
    tuner.status("bad-setting")
    tuner.extend("suspended-jobs", 40)
    tuner.stop("suspended-jobs")
    tuner.delete("suspended-jobs")
    tuner.studies(cluster=True)
    return {right(method, path) for method, path in server.requests}


@pytest.mark.filterwarnings("ignore:the curves of:UserWarning")
def test_documented_rights_are_those_used(used: set[Right]) -> None:
    assert used - documented() == set()
    needless = documented() - used
    assert needless <= {
        ("", "pods/portforward", "create"),  # newer API servers
        ("", "pods/exec", "create"),  # the same
        ("", "pods/exec", "get"),  # of the pod that copies files, which does not run here
        ("apps", "deployments", "get"),  # a suggestion service without a word of its own
    }


def test_shipped_roles_grant_the_documented_rights() -> None:
    roles = YAML(typ="safe").load_all((PAGE.parents[2] / "manifests/rbac/gantune.yaml").read_text())
    granted = {
        (group, resource, verb)
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted == documented()
