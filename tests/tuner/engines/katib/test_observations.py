"""Learning curves: a real gRPC server that fails in every way, and port-forwards that are refused or cut."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.tuner import dbserver
from tests.tuner.clusters import NOWHERE, FastClock
from tests.tuner.dbserver import Answer, DbServer, reply
from tests.tuner.loopback import Loopback, many
from tuner.engines.katib import KatibEngine
from tuner.errors import ClusterError, Forbidden, NotFound, Unreachable
from tuner.katib.facts import SIDECAR
from tuner.kube import Cluster
from tuner.kube.dbmanager import DbManager
from tuner.store import curves
from tuner.store.studies import Store


def values(count: int) -> Any:
    return reply([("fd", "1.5")] * count)


@pytest.fixture
def database() -> Iterator[DbServer]:
    with dbserver.database() as running:
        running.answer = lambda trial, context: values(2)
        yield running


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def engine(
    server: Loopback, kubeconfig: Path, tmp_path: Path, notes: list[str], database: DbServer
) -> KatibEngine:
    for plural, item in many(6):
        server.put(plural, item)
    store = Store(tmp_path / "store")
    return KatibEngine(
        Cluster.connect(),
        store,
        notify=notes.append,
        clock=FastClock(),
        db_manager=database.address,
    )


@pytest.fixture
def pod(server: Loopback, kubeconfig: Path, database: DbServer) -> Loopback:
    """A DB manager's pod, whose forwarded port leads to the gRPC server."""
    labels = {"katib.kubeflow.org/component": "db-manager"}
    metadata = {"name": "katib-db-manager-1", "namespace": "kubeflow", "labels": labels}
    server.put("pods", {"metadata": metadata, "status": {"phase": "Running"}})
    host, _, port = database.address.partition(":")
    server.forwards["katib-db-manager-1"] = (host, int(port))
    return server


def had(engine: KatibEngine) -> set[str]:
    return set(curves.read(engine.store.folder("big")))


def test_one_missing_curve_does_not_block_others(
    engine: KatibEngine, database: DbServer, notes: list[str]
) -> None:
    def answer(trial: str, context: Any) -> Any:
        if trial == "big-00000001":
            context.abort(grpc.StatusCode.UNKNOWN, "Error 1390: too many placeholders")
        return values(2)

    database.answer = answer
    engine.result("big")
    assert had(engine) == {f"big-{i:08d}" for i in range(6)} - {"big-00000001"}
    assert len(notes) == 1
    assert notes[0].startswith(
        "the curves of 1 trials could not be read: Katib's DB manager fails for trial big-00000001"
    )
    assert "too many placeholders" in notes[0]


def test_silent_db_manager_is_abandoned(
    engine: KatibEngine, database: DbServer, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()

    def answer(trial: str, context: Any) -> Any:
        release.wait(5)
        return values(1)

    database.answer = answer
    monkeypatch.setattr("tuner.kube.dbmanager._TIMEOUT", 0.3)
    engine.result("big")
    release.set()
    assert len(database.calls) == 3
    assert (
        "the curves of 6 trials could not be read: Katib's DB manager did not answer in 0.3 s"
        in notes[0]
    )


def test_a_curve_beyond_grpcs_own_limit_is_read(
    engine: KatibEngine, database: DbServer, notes: list[str]
) -> None:
    database.answer = lambda trial, context: values(120_000)
    assert database.answer("", None).ByteSize() > 4 << 20
    with DbManager.open(engine.cluster, address=database.address) as manager:
        assert len(manager.observations("big-00000000")) == 120_000


def test_only_a_missing_db_manager_is_unreachable(engine: KatibEngine, database: DbServer) -> None:
    def fail(code: grpc.StatusCode) -> Answer:
        return lambda trial, context: context.abort(code, "no")

    with DbManager.open(engine.cluster, address=database.address) as manager:
        database.answer = fail(grpc.StatusCode.UNAVAILABLE)
        with pytest.raises(Unreachable, match="fails for trial x: no"):
            manager.observations("x")
        database.answer = fail(grpc.StatusCode.INTERNAL)
        with pytest.raises(ClusterError, match="fails for trial x: no") as caught:
            manager.observations("x")
        assert type(caught.value) is ClusterError


def test_unsupported_filter_loses_only_the_curve(
    server: Loopback, engine: KatibEngine, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    item = server.objects["experiments", "gan", "big"]
    item["spec"]["metricsCollectorSpec"].setdefault("source", {})["filter"] = {
        "metricsFormat": ["([[:word:]]+)=([0-9.]+)"]
    }
    engine.db_manager = "127.0.0.1:9"
    monkeypatch.setattr("tuner.kube.dbmanager._TIMEOUT", 0.1)
    assert engine.result("big").best is not None
    assert (
        "the curves of 6 trials could not be read: Katib's DB manager does not answer" in notes[0]
    )


def test_one_pod_list_serves_all_trials(
    server: Loopback, engine: KatibEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for plural, item in many(50):
        server.put(plural, item)
    for trial in ("big-00000007", "big-00000042"):  # the others' pods Katib has removed
        labels = {"katib.kubeflow.org/experiment": "big", "katib.kubeflow.org/trial": trial}
        spec = {"containers": [{"name": "trainer"}, {"name": SIDECAR}]}
        server.put(
            "pods",
            {
                "metadata": {"name": f"{trial}-x", "namespace": "gan", "labels": labels},
                "spec": spec,
            },
        )
        server.logs[f"{trial}-x/{SIDECAR}"] = "2026-01-02T03:04:05Z 2026-01-02T03:04:05Z fd=1.5\n"
    engine.db_manager = NOWHERE
    monkeypatch.setattr("tuner.kube.dbmanager._TIMEOUT", 0.1)
    engine.result("big")
    assert had(engine) == {"big-00000007", "big-00000042"}
    # the Experiment, its trials, its pods
    assert (server.count("GET", "/log"), len(server.requests)) == (2, 5)
    engine.result("big")
    assert len(server.requests) == 8  # what was had is not read again


def test_json_metrics_are_read_from_logs(
    server: Loopback, engine: KatibEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = (
        {"kind": "File"},
        {"fileSystemPath": {"kind": "File", "path": "/m.json", "format": "JSON"}},
    )
    spec = {"collector": collector[0], "source": collector[1]}
    server.objects["experiments", "gan", "big"]["spec"]["metricsCollectorSpec"] = spec
    labels = {"katib.kubeflow.org/experiment": "big", "katib.kubeflow.org/trial": "big-00000001"}
    containers = {"containers": [{"name": "trainer"}, {"name": SIDECAR}]}
    server.put(
        "pods",
        {"metadata": {"name": "p", "namespace": "gan", "labels": labels}, "spec": containers},
    )
    klog = "2026-01-02T03:04:05Z ??? I0102 03:04:05.748519      15 main.go:143] "
    lines = [f'{klog}{{"timestamp": "2026-01-02T03:04:0{i}Z", "fd": "{i}.5"}}\n' for i in range(3)]
    server.logs[f"p/{SIDECAR}"] = "".join([f"{klog}Trial Name: big-00000001\n", *lines])
    engine.db_manager = NOWHERE
    monkeypatch.setattr("tuner.kube.dbmanager._TIMEOUT", 0.1)
    engine.result("big")
    curve = curves.read(engine.store.folder("big"))["big-00000001"]["fd"]
    assert [(seen.metric, seen.value) for seen in curve] == [("fd", 0.5), ("fd", 1.5), ("fd", 2.5)]
    assert all(seen.time for seen in curve)


def test_curves_follow_an_archived_study(engine: KatibEngine, database: DbServer) -> None:
    def answer(trial: str, context: Any) -> Any:
        if len(database.calls) == 3:
            engine.store.activate("big", "another")
        return values(2)

    database.answer = answer
    engine.result("big")
    assert had(engine) == set()
    assert len(curves.read(engine.store.folder("big.1"))) == 6


@pytest.mark.parametrize("verb", ["get", "create"])  # servers since 1.35 ask for create too
def test_forbidden_port_forward_names_the_rule(pod: Loopback, verb: str) -> None:
    says = f'pods "katib-db-manager-1" is forbidden: User "u" cannot {verb} resource "pods/portforward" in API group ""'
    pod.answer("GET", "/portforward", 403, {"kind": "Status", "message": says, "code": 403})
    with pytest.raises(Forbidden) as caught, DbManager.open(Cluster.connect()):
        pass
    assert f'{{apiGroups: [""], resources: ["pods/portforward"], verbs: ["{verb}"]}}' in str(
        caught.value
    )
    assert pod.count("GET", "/portforward") == 1


def test_a_port_forward_that_fails_says_why(pod: Loopback) -> None:
    pod.answer("GET", "/portforward", 502, "bad gateway")
    with pytest.raises(Unreachable, match="502: bad gateway"), DbManager.open(Cluster.connect()):
        pass


def test_watch_runs_while_port_forward_starts(pod: Loopback) -> None:
    """The kubernetes package replaces `request` on the ApiClient that forwards: never on the one that watches."""
    cluster = Cluster.connect()
    before = cluster._api.request
    assert cluster.new_api() is not cluster._api
    with DbManager.open(cluster) as manager:
        assert len(manager.observations("x")) == 2
        assert cluster._api.request == before


def test_both_ends_of_a_bridge_see_the_end() -> None:
    from tuner.kube.dbmanager import _bridge

    (client, near), (far, pod_side) = socket.socketpair(), socket.socketpair()
    bridge = threading.Thread(target=_bridge, args=(near, far), daemon=True)
    bridge.start()
    client.sendall(b"ping")
    assert pod_side.recv(10) == b"ping"
    pod_side.sendall(b"pong")
    pod_side.close()
    client.settimeout(2)
    assert (client.recv(10), client.recv(10)) == (b"pong", b"")
    bridge.join(2)
    assert not bridge.is_alive()
    assert (near.fileno(), far.fileno()) == (-1, -1)
    client.close()


def test_log_without_pod_shows_reported_metrics(
    engine: KatibEngine, database: DbServer, notes: list[str], server: Loopback
) -> None:
    """Katib removes the pods of trials that have ended, unless `retain` is true, as in none of our manifests."""
    server.objects = {key: item for key, item in server.objects.items() if key[0] != "pods"}
    database.answer = lambda trial, context: values(1)
    assert list(engine.logs("big", "1")) == ["2026-01-02T03:04:05.123456Z fd=1.5"]
    assert database.calls == ["big-00000001"]
    assert any(
        "has no pod" in note and "these are the metrics that it reported" in note for note in notes
    )
    database.answer = lambda trial, context: values(0)
    with pytest.raises(NotFound, match="has no pod"):
        list(engine.logs("big", "2"))
