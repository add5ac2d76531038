"""Commands in a pod's container: the API server runs them on this machine and streams what they print."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.tuner.loopback import Loopback
from tuner.errors import ClusterError, Forbidden, NotFound, Timeout, Unreachable
from tuner.kube import Cluster
from tuner.kube.execute import Output, execute, pipe


@pytest.fixture
def cluster(server: Loopback, kubeconfig: Path) -> Cluster:
    server.put("pods", {"metadata": {"name": "p", "namespace": "gan"}})
    return Cluster.connect()


def output(
    cluster: Cluster, *argv: str, pod: str = "p", most: int = 1 << 20, seconds: float = 10.0
) -> Output:
    return execute(cluster, pod, "main", argv, namespace="gan", most=most, seconds=seconds)


def test_returns_bytes_as_they_are(cluster: Cluster, tmp_path: Path) -> None:
    data = bytes(range(256)) * 700
    (tmp_path / "file").write_bytes(data)
    assert output(cluster, "cat", str(tmp_path / "file")) == Output(data, "")


def test_arguments_reach_no_shell(cluster: Cluster, tmp_path: Path) -> None:
    odd = tmp_path / "a $(touch pwned); 'b'"
    odd.write_text("x")
    assert output(cluster, "cat", str(odd)).data == b"x"


def test_failure_has_its_words(cluster: Cluster) -> None:
    found = output(cluster, "cat", "/no/such/file")
    assert found.data == b""
    assert "/no/such/file" in found.failure
    assert output(cluster, "no-such-program").failure


def test_output_is_bounded(cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match="prints more than 100 bytes"):
        output(cluster, sys.executable, "-c", "print('x' * 200)", most=100)


def test_slow_command_times_out(cluster: Cluster) -> None:
    start = time.monotonic()
    with pytest.raises(Timeout, match=r"sleep in pod p did not finish in 0\.3 s"):
        output(cluster, "sleep", "2", seconds=0.3)
    assert time.monotonic() - start < 1.5


def test_missing_right_names_the_rule(server: Loopback, cluster: Cluster) -> None:
    says = 'pods "p" is forbidden: User "u" cannot get resource "pods/exec" in API group "" in the namespace "gan"'
    server.answer("GET", "/exec", 403, {"kind": "Status", "message": says, "code": 403})
    with pytest.raises(Forbidden, match=r'resources: \["pods/exec"\], verbs: \["get"\]'):
        output(cluster, "cat", "/x")


def test_other_answers_are_typed_errors(server: Loopback, cluster: Cluster) -> None:
    with pytest.raises(NotFound):
        output(cluster, "cat", "/x", pod="gone")
    server.answer("GET", "/exec", 502, "bad gateway")
    with pytest.raises(Unreachable):
        output(cluster, "cat", "/x")
    server.silent = True
    with pytest.raises(Unreachable):
        output(cluster, "cat", "/x")


READER = """
import resource, sys
from tuner.kube import Cluster
from tuner.kube.execute import execute, pipe
cluster = Cluster.connect()
execute(cluster, "p", "main", ["echo", "x"], namespace="gan", most=9, seconds=9)
before, size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
with pipe(cluster, "p", "main", ["head", "-c", str(64 << 20), "/dev/zero"], namespace="gan") as stream:
    while chunk := stream.read(1 << 18):
        size += len(chunk)
print(size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.usefixtures("cluster")
def test_stream_is_not_held_in_memory() -> None:
    ran = subprocess.run([sys.executable, "-c", READER], capture_output=True, text=True, check=True)
    size, grown = map(int, ran.stdout.split())
    assert size == 64 << 20
    assert grown < 32 << 10  # KiB


def test_stream_of_a_failing_command_raises(cluster: Cluster) -> None:
    with (
        pipe(cluster, "p", "main", ["cat", "/no/such/file"], namespace="gan") as stream,
        pytest.raises(ClusterError, match="/no/such/file"),
    ):
        stream.read()


def test_silent_stream_times_out(cluster: Cluster) -> None:
    with (
        pipe(cluster, "p", "main", ["sleep", "3"], namespace="gan", silence=0.5) as stream,
        pytest.raises(Timeout, match="nothing was received"),
    ):
        stream.read()
