"""manifests/overlays/: each renders, is valid, says for whom it is, and changes what it says it changes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.manifests import rendering as k8s
from tuner.katib.facts import GRPC_PORT
from tuner.suggestion.request import SERVED


def pod(name: str) -> dict[str, Any]:
    return k8s.trial(k8s.experiment(k8s.overlay(name)))["spec"]["template"]["spec"]


def limits(name: str) -> dict[str, str]:
    return pod(name)["containers"][0]["resources"]["limits"]


def test_all_overlays_exist() -> None:
    wanted = [
        "aks",
        "cpu",
        "dra",
        "eks",
        "eks-karpenter",
        "generic",
        "gke",
        "kueue",
        "mig",
        "spot",
        "volume",
    ]
    assert wanted == k8s.OVERLAYS


@pytest.mark.parametrize("name", [*k8s.OVERLAYS, *k8s.CONFIGS])
def test_overlay_starts_with_purpose(name: str) -> None:
    lines = (k8s.MANIFESTS / "overlays" / name / "kustomization.yaml").read_text().splitlines()
    assert [line.startswith("# ") for line in lines[:3]] == [True, True, False]
    assert lines[0].startswith("# For ")


@pytest.mark.parametrize("name", k8s.OVERLAYS)
def test_overlay_passes_gantune_check(name: str, tmp_path: Path) -> None:
    (tmp_path / "rendered.yaml").write_text(k8s.overlay(name))
    assert k8s.check(tmp_path / "rendered.yaml").endswith("no problems")


@pytest.mark.parametrize("version", k8s.VERSIONS)
def test_overlays_and_trials_are_valid(version: str, tmp_path: Path) -> None:
    objects = []
    for name in [*k8s.OVERLAYS, *k8s.CONFIGS]:
        # resource.k8s.io/v1 came with 1.34, as the overlay says
        if name == "dra" and version < "1.34":
            continue
        rendered = k8s.documents(k8s.overlay(name))
        objects += rendered + [
            k8s.trial(document) for document in rendered if document["kind"] == "Experiment"
        ]
    k8s.kubeconform(objects, version, tmp_path)


def test_pools_select_and_tolerate() -> None:
    selectors = {
        "gke": {"cloud.google.com/gke-accelerator": "nvidia-l4"},
        "eks": {"eks.amazonaws.com/nodegroup": "gpu"},
        "eks-karpenter": {"karpenter.k8s.aws/instance-gpu-manufacturer": "nvidia"},
        "aks": {"kubernetes.azure.com/accelerator": "nvidia"},
        "generic": {"nvidia.com/gpu.present": "true"},
    }
    for name, labels in selectors.items():
        assert pod(name)["nodeSelector"] == {"kubernetes.io/os": "linux"} | labels
        assert limits(name)["nvidia.com/gpu"] == "1"
        assert any(toleration["key"] == "nvidia.com/gpu" for toleration in pod(name)["tolerations"])


def test_requests_one_gpu_once() -> None:
    assert "nvidia.com/gpu" not in limits("cpu")
    assert "tolerations" not in pod("cpu")
    assert [key for key in limits("mig") if "nvidia" in key] == ["nvidia.com/mig-1g.10gb"]
    assert [key for key in limits("dra") if "nvidia" in key] == []
    claim = pod("dra")["resourceClaims"][0]["resourceClaimTemplateName"]
    assert claim in [d["metadata"]["name"] for d in k8s.documents(k8s.overlay("dra"))]


def test_spot_retries_only_interruptions() -> None:
    job = k8s.trial(k8s.experiment(k8s.overlay("spot")))
    ignore, fail = job["spec"]["podFailurePolicy"]["rules"]
    assert ignore == {
        "action": "Ignore",
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
    }
    assert fail["onExitCodes"]["values"] == [2, 3]
    claims = [d for d in k8s.documents(k8s.overlay("spot")) if d["kind"] == "PersistentVolumeClaim"]
    volume = next(v for v in pod("spot")["volumes"] if v["name"] == "output")
    assert volume["persistentVolumeClaim"]["claimName"] == claims[0]["metadata"]["name"]


def test_spot_forwards_sigterm_to_trainer(tmp_path: Path) -> None:
    """Katib's `sh -c 'command && echo ...'` dies of SIGTERM and leaves its child untold; the preStop hook tells it."""
    package = tmp_path / "trainer"
    package.mkdir()
    (package / "__main__.py").write_text(
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        "print('ready', flush=True)\ntime.sleep(60)\n"
    )
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "python").symlink_to(sys.executable)
    wrapped = "python -m trainer --lr=1 && echo completed"
    environment = {"PATH": f"{bin_}:/usr/bin:/bin"}
    [sh, flag, script] = pod("spot")["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    with subprocess.Popen(
        ["sh", "-c", wrapped], cwd=tmp_path, env=environment, stdout=subprocess.PIPE
    ) as main:
        assert main.stdout is not None
        assert main.stdout.readline() == b"ready\n"
        [child] = Path(f"/proc/{main.pid}/task/{main.pid}/children").read_text().split()
        # /proc of the host holds other people's trainers: of all processes the hook sees this shell
        # and its child only
        script = script.replace("/proc/[0-9]*", f"/proc/{main.pid} /proc/{child}").replace(
            "sleep 5", "true"
        )
        assert f"in /proc/{main.pid} /proc/{child};" in script
        subprocess.run([sh, flag, script], env=environment, check=True, capture_output=True)
        assert main.wait(timeout=10) == 143


def test_kueue_creates_suspended_jobs() -> None:
    job = k8s.trial(k8s.experiment(k8s.overlay("kueue")))
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gan-tuner"
    assert job["spec"]["suspend"] is True


@pytest.mark.parametrize(
    ("upper", "lower"), [("spot", "gke"), ("kueue", "spot"), ("dra", "aks"), ("mig", "eks")]
)
def test_overlay_builds_on_another(upper: str, lower: str, tmp_path: Path) -> None:
    shutil.copytree(k8s.MANIFESTS, tmp_path / "manifests")
    folder = tmp_path / "manifests" / "overlays"
    file = folder / upper / "kustomization.yaml"
    file.write_text(file.read_text().replace("- ../generic\n", f"- ../{lower}\n"))
    both = k8s.trial(k8s.experiment(k8s.kustomize(folder / upper)))
    assert (
        pod(lower)["nodeSelector"].items()
        <= both["spec"]["template"]["spec"]["nodeSelector"].items()
    )


@pytest.mark.parametrize("name", [name for name in k8s.SEARCHES if name != "bayes"])
def test_overlay_accepts_any_search(name: str, tmp_path: Path) -> None:
    shutil.copytree(k8s.MANIFESTS, tmp_path / "manifests")
    file = tmp_path / "manifests" / "base" / "kustomization.yaml"
    file.write_text(file.read_text().replace("- bayes.yaml", f"- {name}.yaml"))
    folder = tmp_path / "manifests" / "overlays" / "cpu"
    rendered = k8s.experiment(k8s.kustomize(folder))
    assert rendered["metadata"]["name"] == f"gan-{name}"


def config(name: str) -> dict[str, Any]:
    """What Katib's controller reads."""
    [found] = k8s.documents(k8s.overlay(name))
    assert (found["metadata"]["name"], found["metadata"]["namespace"]) == (
        "katib-config",
        "kubeflow",
    )
    [katib] = k8s.documents(found["data"]["katib-config.yaml"])
    return dict(katib)


def services(name: str) -> dict[str, dict[str, Any]]:
    return {entry["algorithmName"]: entry for entry in config(name)["runtime"]["suggestions"]}


@pytest.mark.parametrize("name", k8s.CONFIGS)
def test_katib_config_sets_memory_and_security(name: str) -> None:
    assert config(name)["init"]["controller"]["injectSecurityContext"] is True
    for algorithm, service in services(name).items():
        assert service["securityContext"]["runAsNonRoot"] is True, algorithm
        assert service["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert service["resources"]["limits"]["memory"] != "100Mi"


def test_suggestion_overlay_replaces_only_services() -> None:
    stock, ours = services("katib"), services("katib-suggestions")
    assert stock.keys() == ours.keys()
    replaced = {name for name, service in ours.items() if service != stock[name]}
    assert replaced == set(SERVED)
    assert all(service["image"].endswith(":v0.19.0") for service in stock.values())
    others = [config(name) for name in k8s.CONFIGS]
    for katib in others:
        del katib["runtime"]["suggestions"]
    assert others[0] == others[1]


def test_suggestion_service_is_restricted_and_probed(tmp_path: Path) -> None:
    pods = []
    for name in SERVED:
        entry = services("katib-suggestions")[name]
        container = {key: value for key, value in entry.items() if key != "algorithmName"} | {
            "name": "suggestion"
        }
        assert container["image"] == "ghcr.io/gan-tuner/suggestion:0.1.0"
        assert container["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        for probe in ("readinessProbe", "livenessProbe"):
            assert container[probe]["grpc"] == {"port": GRPC_PORT}
        assert "ports" not in container, (
            "Katib adds its own, and refuses the Suggestion if this port is listed"
        )
        pods.append(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name},
                "spec": {"containers": [container]},
            }
        )
    k8s.kubeconform(pods, k8s.VERSIONS[-1], tmp_path)
