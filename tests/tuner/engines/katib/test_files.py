"""Files of a trial from its volume. The API server runs the commands of the copying pod on this machine."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.tuner.clusters import FastClock
from tests.tuner.commandline import gantune
from tests.tuner.loopback import Loopback, many
from tuner.engines.katib import KatibEngine, files
from tuner.errors import ClusterError, Forbidden, NotFound, StudyError, Timeout, UnsupportedError
from tuner.kube import Cluster
from tuner.manifest import from_document
from tuner.store.studies import Store

CLAIM = {"persistentVolumeClaim": {"claimName": "outputs"}}
BEST = "big-00000001"


def template(volume: dict[str, Any], path: str) -> dict[str, Any]:
    container = {
        "name": "trainer",
        "image": "trainer:1",
        "command": ["python", "-m", "trainer"],
        "args": ["--lr=${trialParameters.lr}", f"--output-dir={path}"],
        "volumeMounts": [{"name": "output", "mountPath": "/output"}],
        "securityContext": {"runAsUser": 1234},
    }
    pod = {
        "containers": [container],
        "volumes": [{"name": "output", **volume}],
        "nodeSelector": {"kubernetes.io/os": "linux", "gpu": "yes"},
        "securityContext": {"fsGroup": 1234},
    }
    return {
        "primaryContainerName": "trainer",
        "trialParameters": [
            {"name": "lr", "reference": "lr"},
            {"name": "trial", "reference": "${trialSpec.Name}"},
        ],
        "trialSpec": {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": {"spec": pod}}},
    }


def fill(
    server: Loopback, volume: dict[str, Any] = CLAIM, path: str = "/output/${trialParameters.trial}"
) -> None:
    for plural, item in many(2):
        if plural == "experiments":
            item["spec"]["trialTemplate"] = template(volume, path)
        server.put(plural, item)


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The volume as the copying pod mounts it, with the files of the best trial."""
    folder = tmp_path / "volume"
    (folder / BEST / "deep er").mkdir(parents=True)
    (folder / BEST / "generator.safetensors").write_bytes(os.urandom(3_000_000))
    (folder / BEST / "deep er" / "it's $(odd)").write_text("x")
    (folder / BEST / "link").symlink_to("/etc/passwd")
    Image.new("RGB", (8, 8)).save(folder / BEST / "samples.png")
    monkeypatch.setattr(files, "_MOUNT", str(folder))
    return folder


@pytest.fixture
def pods(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The pods that were created; each runs at once."""
    made: list[dict[str, Any]] = []
    put = server.put

    def running(plural: str, item: dict[str, Any]) -> dict[str, Any]:
        if plural == "pods":
            item["status"] = {
                "phase": "Running",
                "containerStatuses": [{"name": "files", "state": {"running": {}}}],
            }
            made.append(item)
        return put(plural, item)

    monkeypatch.setattr(server, "put", running)
    return made


@pytest.fixture
def engine(server: Loopback, kubeconfig: Path, tmp_path: Path) -> KatibEngine:
    return KatibEngine(
        Cluster.connect(), Store(tmp_path / "store"), namespace="gan", clock=FastClock()
    )


def test_files_are_those_of_the_volume(
    server: Loopback,
    engine: KatibEngine,
    volume: Path,
    pods: list[dict[str, Any]],
    tmp_path: Path,
) -> None:
    fill(server)
    trial, found = engine.files("big", tmp_path / "out")
    assert trial.name == BEST
    assert [each.path for each in found] == [
        "deep er/it's $(odd)",
        "generator.safetensors",
        "samples.png",
    ]
    for each in found:
        data = (volume / BEST / each.path).read_bytes()
        assert (tmp_path / "out" / each.path).read_bytes() == data
        assert (each.size, each.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert not any(key[0] == "pods" for key in server.objects)  # the pod is deleted
    kept = engine.store.folder("big") / "samples" / f"{BEST}.jpg"
    assert kept.read_bytes().startswith(b"\xff\xd8")  # the report shows it


def test_pod_has_no_rights(
    server: Loopback,
    engine: KatibEngine,
    volume: Path,
    pods: list[dict[str, Any]],
    tmp_path: Path,
) -> None:
    fill(server)
    engine.files("big", tmp_path / "out")
    spec = pods[0]["spec"]
    [container] = spec["containers"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"] == {
        "runAsUser": 1234,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        "fsGroup": 1234,
        "fsGroupChangePolicy": "OnRootMismatch",
    }
    assert spec["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert container["image"] == "trainer:1"
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["volumeMounts"][0]["readOnly"] is True
    assert spec["activeDeadlineSeconds"]


@pytest.mark.parametrize(
    "path", ["/output/$KATIB_TRIAL_NAME/run", "/output/$(KATIB_TRIAL_NAME)", "/output/t-/../{0}/x"]
)
def test_directory_may_be_named_by_a_variable(path: str, server: Loopback) -> None:
    fill(server, path=path)
    [item] = [item for key, item in server.objects.items() if key[0] == "experiments"]
    found = files.place(from_document(item), "big-1")
    assert found == (None if ".." in path else files.Place("/output", "outputs", "big-1"))


@pytest.mark.parametrize(
    ("where", "path", "reason"),
    [
        ({"emptyDir": {}}, "/output/${trialParameters.trial}", "deleted with their pods"),
        (CLAIM, "/output/same", "give each trial a directory with its name"),
        (CLAIM, "/elsewhere/${trialParameters.trial}", "give each trial a directory"),
    ],
)
def test_lost_files_say_why(
    where: dict[str, Any], path: str, reason: str, server: Loopback, engine: KatibEngine
) -> None:
    fill(server, where, path)
    with pytest.raises(UnsupportedError, match=reason):
        engine.files("big", Path("out"))


@pytest.mark.usefixtures("pods")
def test_failed_copy_can_be_repeated(
    server: Loopback,
    engine: KatibEngine,
    volume: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(server)
    with monkeypatch.context() as changed:
        changed.setattr(files, "_LISTING", files._LISTING.replace("sha256sum", "sha224sum"))
        with pytest.raises(NotFound, match="wrote no file"):
            engine.files("big", tmp_path / "out")
    with monkeypatch.context() as changed:
        changed.setenv("PATH", "/nowhere")
        with pytest.raises((ClusterError, NotFound)):
            engine.files("big", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    engine.files("big", tmp_path / "out")
    with pytest.raises(StudyError, match="not empty"):
        engine.files("big", tmp_path / "out")


def test_pod_that_does_not_start_is_deleted(
    server: Loopback, engine: KatibEngine, volume: Path, tmp_path: Path
) -> None:
    fill(server)
    with pytest.raises(Timeout, match="did not start in 180 s"):
        engine.files("big", tmp_path / "out")
    assert not any(key[0] == "pods" for key in server.objects)
    words = 'pods is forbidden: User "u" cannot create resource "pods" in API group ""'
    server.answer("POST", "/pods", 403, {"kind": "Status", "message": words, "reason": "Forbidden"})
    with pytest.raises(Forbidden, match="create"):
        engine.files("big", tmp_path / "out")


@pytest.mark.usefixtures("pods", "kubeconfig")
def test_command_lists_what_it_copied(server: Loopback, volume: Path, tmp_path: Path) -> None:
    fill(server)
    ran = gantune(tmp_path, "files", "big", "-n", "gan", "-o", "out")
    assert ran.returncode == 0, ran.stderr
    assert "generator.safetensors" in ran.stdout
    size = 3_000_000 + 1 + (volume / BEST / "samples.png").stat().st_size
    assert f"trial 1: 3 files, {size:,} bytes in out" in ran.stderr
