"""How a cluster is found: kubeconfig, a pod's service account, none at all; and TLS."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tuner.loopback import TOKEN, Loopback
from tuner.errors import NoCluster, Unreachable
from tuner.kube import NODES, Cluster


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of its own for 127.0.0.1, and its key."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("tls")
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=loopback -addext subjectAltName=IP:127.0.0.1"
    files = ["-out", str(folder / "cert.pem"), "-keyout", str(folder / "key.pem")]
    subprocess.run(["openssl", *words.split(), *files], check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
def secure(certificate: tuple[Path, Path]) -> Iterator[Loopback]:
    with Loopback(certificate) as server:
        yield server


@pytest.fixture
def pod(
    secure: Loopback,
    certificate: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Loopback:
    """This process as a pod of that cluster: its service account's files and environment."""
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "namespace").write_text("gan\n")
    place = "kubernetes.config.incluster_config"
    monkeypatch.setattr(f"{place}.SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(f"{place}.SERVICE_CERT_FILENAME", str(certificate[0]))
    monkeypatch.setattr("tuner.kube.client._POD_NAMESPACE", str(tmp_path / "namespace"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(secure.server.server_port))
    no_kubeconfig(tmp_path, monkeypatch)
    return secure


def no_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setattr(
        "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none")
    )


def test_a_pod_uses_its_service_account(pod: Loopback) -> None:
    cluster = Cluster.connect()
    assert (cluster.in_pod, cluster.namespace, cluster.server) == (True, "gan", pod.url)
    assert [node["metadata"]["name"] for node in cluster.list(NODES)] == ["lab"]


def test_kubeconfig_wins_over_the_pod(
    pod: Loopback, server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path / "kubeconfig")))
    cluster = Cluster.connect()
    assert (cluster.in_pod, cluster.server) == (False, server.url)


def test_unusable_kubeconfig_excludes_in_cluster_credentials(
    pod: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "mistyped"))
    with pytest.raises(Unreachable, match=r"KUBECONFIG=\S+/mistyped cannot be used"):
        Cluster.connect()
    assert pod.requests == []


def test_a_certificate_of_an_unknown_authority_is_said(
    secure: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(secure.kubeconfig(tmp_path / "kubeconfig")))
    with pytest.raises(
        Unreachable, match=r"TLS failed .*check the cluster's CA in the kubeconfig"
    ) as caught:
        list(Cluster.connect(tries=1).list(NODES))
    assert "\n" not in str(caught.value)


def test_without_any_kubeconfig_there_is_no_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_kubeconfig(tmp_path, monkeypatch)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(NoCluster, match="set KUBECONFIG, or run a search here"):
        Cluster.connect()


@pytest.mark.parametrize("text", ["", "[]", "a: [", "clusters: 3\ncurrent-context: x", "\x00"])
def test_a_broken_kubeconfig_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "config").write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(Unreachable) as caught:
        Cluster.connect()
    assert "\n" not in str(caught.value)


def test_an_unknown_context_is_named(kubeconfig: Path) -> None:
    with pytest.raises(Unreachable, match="no usable context prod"):
        Cluster.connect("prod")
