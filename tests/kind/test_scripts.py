"""kind/: the scripts are clean, and never touch the user's own cluster; stand-ins of the programs record."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.manifests.rendering import ROOT, documents, output, tool

KIND = ROOT / "kind"
SCRIPTS = sorted(path.name for path in KIND.glob("*.sh") if path.name != "env.sh")
RECORDER = """#!/bin/sh
printf '%s|%s\\n' "$KUBECONFIG" "${0##*/} $*" >> "$LOG"
case "${0##*/} $*" in
  "kind get clusters") printf '%s' "$CLUSTERS" ;;
  "kubectl get nodes "*) printf '%s\\n' "${NODES-node-1 free}" ;;
esac
exit "${FAIL:-0}"
"""


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """A copy of kind/, recorders on the PATH, and a user's kubeconfig that must stay as it is."""
    shutil.copytree(KIND, tmp_path / "kind", ignore=shutil.ignore_patterns("kubeconfig"))
    (tmp_path / "programs").mkdir()
    for name in ("kind", "kubectl", "docker"):
        program = tmp_path / "programs" / name
        program.write_text(RECORDER)
        program.chmod(0o755)
    (tmp_path / "users-kubeconfig").write_text("the user's own")
    return tmp_path


def run(
    stage: Path, script: str, *arguments: str, **environment: str
) -> tuple[int, list[str], str]:
    """Exit code, the calls that were recorded, and stderr."""
    log = stage / "log"
    log.unlink(missing_ok=True)
    variables = {
        "PATH": f"{stage / 'programs'}:{os.environ['PATH']}",
        "KUBECONFIG": str(stage / "users-kubeconfig"),
        "HOME": str(stage),
        "LOG": str(log),
        "CLUSTERS": "",
    }
    done = subprocess.run(
        ["bash", str(stage / "kind" / script), *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=variables | environment,
        timeout=60,
    )
    return done.returncode, log.read_text().splitlines() if log.exists() else [], done.stderr


def test_shellcheck_finds_nothing() -> None:
    scripts = [
        *(KIND / name for name in SCRIPTS),
        KIND / "env.sh",
        KIND / "versions.env",
        ROOT / ".ci" / "tools.sh",
    ]
    output(tool("shellcheck"), "-x", *map(str, scripts))


def test_scripts_are_executable() -> None:
    assert SCRIPTS == [
        "create.sh",
        "delete.sh",
        "fake-gpus.sh",
        "install-katib.sh",
        "load-image.sh",
    ]
    assert all(os.access(KIND / name, os.X_OK) for name in SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_never_touches_user_kubeconfig(stage: Path, script: str) -> None:
    code, calls, stderr = run(stage, script)
    assert code == 0, stderr
    assert calls
    assert {call.split("|")[0] for call in calls} == {str(stage / "kind" / "kubeconfig")}
    assert (stage / "users-kubeconfig").read_text() == "the user's own"


def test_suggestion_service_is_built_on_request(stage: Path) -> None:
    _, plain, _ = run(stage, "load-image.sh")
    assert not any("--target suggestion" in call for call in plain)
    _, calls, _ = run(stage, "load-image.sh", GANTUNER_OVERLAY="katib-suggestions")
    assert any("--target suggestion" in call for call in calls)
    assert any("kind load docker-image" in call and "/suggestion:" in call for call in calls)
    _, calls, _ = run(stage, "install-katib.sh", GANTUNER_OVERLAY="katib-suggestions")
    assert any("overlays/katib-suggestions" in call for call in calls)


def test_creates_cluster_once(stage: Path) -> None:
    _, first, _ = run(stage, "create.sh")
    assert any(
        "kind create cluster --name gan-tuner --image kindest/node:v1" in call for call in first
    )
    _, again, _ = run(stage, "create.sh", CLUSTERS="other\ngan-tuner\n")
    assert not any("kind create" in call for call in again)


def test_ignores_clusters_with_similar_names(stage: Path) -> None:
    _, calls, _ = run(stage, "create.sh", CLUSTERS="my-gan-tuner\ngan-tuner-2\n")
    assert any("kind create cluster --name gan-tuner " in call for call in calls)


def test_deletes_cluster_by_name(stage: Path) -> None:
    (stage / "kind" / "kubeconfig").write_text("ours")
    _, calls, _ = run(stage, "delete.sh", GANTUNER_CLUSTER="mine")
    assert [call.split("|")[1] for call in calls] == [
        f"kind delete cluster --name mine --kubeconfig {stage / 'kind' / 'kubeconfig'}"
    ]
    assert not (stage / "kind" / "kubeconfig").exists()


@pytest.mark.parametrize("script", SCRIPTS)
def test_ignores_unrelated_user_variables(stage: Path, script: str) -> None:
    theirs = dict.fromkeys(
        ("CLUSTER", "KUBERNETES", "KATIB", "TRAINER_IMAGE", "CLIENT_IMAGE", "FAKE_GPUS"), "prod"
    )
    code, calls, stderr = run(stage, script, **theirs)
    assert code == 0, stderr
    assert not any("prod" in call for call in calls)


def test_fake_gpus_reads_its_kubeconfig(stage: Path) -> None:
    _, calls, _ = run(stage, "fake-gpus.sh", "1", GANTUNER_KUBECONFIG="/a/cluster")
    assert {call.split("|")[0] for call in calls} == {"/a/cluster"}
    _, calls, _ = run(stage, "delete.sh", GANTUNER_KUBECONFIG="/a/cluster")
    assert {call.split("|")[0] for call in calls} == {str(stage / "kind" / "kubeconfig")}


def test_adds_and_removes_fake_gpus(stage: Path) -> None:
    _, (_, label, patch), _ = run(stage, "fake-gpus.sh", "2")
    assert label.endswith(
        "label --overwrite node node-1 gan-tuner/fake-gpus=true nvidia.com/gpu.present=true"
    )
    assert "patch node node-1 " in patch
    assert '"nvidia.com/gpu": "2"' in patch
    _, (_, patch, label), _ = run(stage, "fake-gpus.sh", "0", NODES="node-1 faked")
    assert "patch node node-1 " in patch
    assert "--type=merge" in patch  # also where there is none
    assert '"nvidia.com/gpu": null' in patch
    assert label.endswith("label node node-1 nvidia.com/gpu.present- gan-tuner/fake-gpus-")
    code, calls, stderr = run(stage, "fake-gpus.sh", "many")
    assert (code, calls) == (2, [])
    assert "got 'many'" in stderr


def changed(calls: list[str]) -> set[str]:
    """The nodes that the calls write to."""
    return {
        word
        for call in calls
        for word in call.split()
        if word.startswith("node-") and " get " not in call
    }


@pytest.mark.parametrize(
    ("nodes", "count", "code", "node", "said"),
    [
        ("node-1 real", "1", 2, None, "node node-1 has real GPUs .*Select a cluster without GPUs"),
        ("node-1 real", "0", 2, None, "node node-1 has real GPUs"),
        ("node-1 free\nnode-2 real", "1", 2, None, "node node-2 has real GPUs"),
        ("node-1 faked\nnode-2 real", "1", 2, None, "node node-2 has real GPUs"),
        ("node-1 real\nnode-2 faked", "0", 0, "node-2", ""),
        ("node-1 free\nnode-2 faked", "3", 0, "node-2", ""),
        ("node-1 free\nnode-2 faked", "0", 0, "node-2", ""),
        ("node-1 tainted\nnode-2 free", "1", 0, "node-2", ""),
        ("node-1 tainted", "1", 1, None, "every node has a taint"),
        ("node-1 free", "0", 0, None, ""),
    ],
)
def test_fakes_gpus_only_without_real_ones(
    stage: Path, nodes: str, count: str, code: int, node: str | None, said: str
) -> None:
    got, calls, stderr = run(stage, "fake-gpus.sh", count, NODES=nodes)
    assert (got, changed(calls)) == (code, {node} - {None})
    assert re.search(said, stderr)


NODES = {
    "made": (
        {"gan-tuner/fake-gpus": "true", "nvidia.com/gpu.present": "true"},
        "4",
        False,
        "faked",
    ),
    "gone": ({"gan-tuner/fake-gpus": "true"}, "0", True, "faked"),
    "device": ({}, "8", True, "real"),
    "label": ({"nvidia.com/gpu.present": "true"}, None, False, "real"),
    "control": ({}, None, True, "tainted"),
    "plain": ({}, None, False, "free"),
}


def test_distinguishes_fake_and_real_gpus(stage: Path) -> None:
    _, [get, *_], _ = run(stage, "fake-gpus.sh", "1")
    items = [
        {
            "metadata": {"name": name, "labels": {"kubernetes.io/os": "linux"} | labels},
            "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]} if tainted else {},
            "status": {"capacity": {"cpu": "2"} | ({"nvidia.com/gpu": gpus} if gpus else {})},
        }
        for name, (labels, gpus, tainted, _) in NODES.items()
    ]
    chart = stage / "chart"  # Helm's templates are kubectl's: both are Go's
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("{apiVersion: v2, name: nodes, version: 0.1.0}")
    (chart / "values.yaml").write_text(json.dumps({"items": items}))
    template = get.partition("-o go-template=")[2]
    (chart / "templates" / "nodes.yaml").write_text(
        '{{define "nodes"}}' + template + '{{end}}nodes: {{include "nodes" .Values | quote}}\n'
    )
    [rendered] = documents(output(tool("helm"), "template", str(chart)))
    assert rendered["nodes"].splitlines() == [
        f"{name} {kind}" for name, (*_, kind) in NODES.items()
    ]


@pytest.mark.parametrize(
    ("script", "program"), [("load-image.sh", "docker"), ("install-katib.sh", "git")]
)
def test_names_missing_program_first(stage: Path, script: str, program: str) -> None:
    (stage / "programs" / program).unlink(missing_ok=True)
    (stage / "plain").mkdir()
    for name in ("bash", "dirname", "basename", "sh"):
        (stage / "plain" / name).symlink_to(str(shutil.which(name)))
    code, calls, stderr = run(stage, script, PATH=f"{stage / 'programs'}:{stage / 'plain'}")
    assert (code, calls) == (1, [])
    assert f"{program} was not found on the PATH" in stderr


def test_failing_step_stops_script(stage: Path) -> None:
    code, calls, _ = run(stage, "install-katib.sh", FAIL="1")
    assert code == 1
    assert len(calls) == 1
