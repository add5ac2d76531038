"""Watches that last: cut, refused, mute and closed, over real HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from tests.tuner.clusters import FastClock
from tests.tuner.loopback import Loopback
from tuner.errors import Forbidden, Timeout
from tuner.kube import EXPERIMENTS, Cluster
from tuner.kube.errors import Expired
from tuner.kube.listwatch import Change, ChangeKind, follow
from tuner.kube.streams import Stop


@pytest.fixture
def cluster(server: Loopback, kubeconfig: Path) -> Cluster:
    server.replay("random-ok")
    cluster = Cluster.connect(timeout=30)
    cluster._backoff = 0.01
    return cluster


@pytest.fixture
def stop() -> Iterator[Stop]:
    stop = Stop()
    yield stop
    stop.set()


def begun(cluster: Cluster, stop: Stop) -> Iterator[Change]:
    """A watch of the Experiments whose first list is read."""
    changes = follow(cluster, EXPERIMENTS, stop, namespace="gan", first_wait=0.01)
    assert [change.kind for change in islice(changes, 3)] == [
        ChangeKind.LISTING,
        ChangeKind.LISTED,
        ChangeKind.SYNCED,
    ]
    return changes


def until(changes: Iterator[Change], kind: ChangeKind) -> list[Change]:
    seen = []
    for change in changes:
        seen.append(change)
        if change.kind is kind:
            return seen
    raise AssertionError("the stream ended")


def later(server: Loopback) -> None:
    """A change, a moment from now."""
    item = dict(server.objects["experiments", "gan", "random-ok"], touched=1)
    threading.Timer(0.2, server.put, ("experiments", item)).start()


def test_watch_lists_again_after_410_and_disconnect(
    server: Loopback, cluster: Cluster, stop: Stop
) -> None:
    changes = begun(cluster, stop)
    threading.Timer(0.2, server.expire).start()
    assert [change.kind for change in until(changes, ChangeKind.SYNCED)][-2:] == [
        ChangeKind.LISTED,
        ChangeKind.SYNCED,
    ]
    later(server)
    assert until(changes, ChangeKind.PUT)[-1].object["touched"] == 1


def test_bookmark_moves_version_without_change(server: Loopback, cluster: Cluster) -> None:
    server.put("trials", {"metadata": {"name": "another", "namespace": "gan"}})
    (bookmark,) = cluster.watch(EXPERIMENTS, str(server.version - 1), namespace="gan", seconds=1)
    assert bookmark["type"] == "BOOKMARK"
    assert bookmark["object"]["metadata"]["resourceVersion"] == str(server.version)


@pytest.mark.parametrize("name", ["unauthorized-401", "forbidden-list-403"])
def test_refusals_in_mid_watch_are_outlived(
    server: Loopback, cluster: Cluster, stop: Stop, name: str
) -> None:
    changes = begun(cluster, stop)
    for _ in range(3):
        server.recorded("GET", "/experiments", name)
    threading.Timer(0.2, server.cut_watches).start()
    seen = until(changes, ChangeKind.SYNCED)
    assert sum(change.kind is ChangeKind.REFUSED for change in seen) >= 2
    later(server)
    assert until(changes, ChangeKind.PUT)[-1].object["touched"] == 1


def test_a_watch_that_is_refused_for_good_ends(
    server: Loopback, cluster: Cluster, stop: Stop
) -> None:
    changes = begun(cluster, stop)
    for _ in range(20):
        server.recorded("GET", "watch=1", "forbidden-list-403")
    threading.Timer(0.2, server.cut_watches).start()
    with pytest.raises(Forbidden, match="the RBAC rule to add"):
        list(changes)
    assert len(server.scripted) == 16


def test_refused_first_list_raises_at_once(server: Loopback, cluster: Cluster, stop: Stop) -> None:
    server.recorded("GET", "/experiments", "unauthorized-401")
    with pytest.raises(Forbidden, match="log in again"):
        list(follow(cluster, EXPERIMENTS, stop, namespace="gan"))


def test_a_half_open_watch_is_noticed_and_lost(server: Loopback, cluster: Cluster) -> None:
    cluster._timeout = 0.3
    server.mute = True
    try:
        with pytest.raises(Timeout, match="did not answer in time"):
            list(cluster.watch(EXPERIMENTS, str(server.version), namespace="gan", seconds=0))
    finally:
        server.mute = False


def test_connections_are_probed_while_they_are_silent(server: Loopback, cluster: Cluster) -> None:
    import socket

    from tuner.kube.streams import KEEPALIVE

    assert (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1) in KEEPALIVE
    cluster.get(EXPERIMENTS, "random-ok", namespace="gan")
    pool = cluster._api.rest_client.pool_manager
    assert pool.connection_pool_kw["socket_options"] == KEEPALIVE


def test_stop_ends_a_silent_stream_at_once(server: Loopback, cluster: Cluster, stop: Stop) -> None:
    changes = begun(cluster, stop)
    reader = threading.Thread(target=lambda: list(changes), daemon=True)
    reader.start()
    while not server.streams:
        time.sleep(0.01)
    stop.set()
    reader.join(2)  # of the 60 s that the server would take
    assert not reader.is_alive()


def test_a_closed_watch_leaves_no_thread_behind(
    server: Loopback, kubeconfig: Path, tmp_path: Path
) -> None:
    from tuner.engines.katib import KatibEngine
    from tuner.store.studies import Store

    server.replay("gpu-unschedulable")
    before = set(threading.enumerate())
    events = KatibEngine(Cluster.connect(), Store(tmp_path / "store"), clock=FastClock()).watch(
        "gpu-unschedulable"
    )
    next(events)
    while len(server.streams) < 3:
        time.sleep(0.01)
    new = [one for one in threading.enumerate() if one not in before]
    # those are the server's
    mine = [one for one in new if "process_request_thread" not in one.name]
    assert len(mine) == 3
    events.close()  # type: ignore[attr-defined]
    for thread in mine:
        thread.join(2)
    assert not [thread for thread in mine if thread.is_alive()]


def test_an_idle_watch_asks_once_a_minute(server: Loopback, cluster: Cluster, stop: Stop) -> None:
    """Three watches make an idle search: three requests a minute, of the one in 10 s that is allowed."""
    changes = begun(cluster, stop)
    threading.Thread(target=lambda: list(changes), daemon=True).start()
    while not server.streams:
        time.sleep(0.01)
    time.sleep(1)
    assert [path.partition("?")[0].rpartition("/")[2] for _, path in server.requests] == [
        "experiments"
    ] * 2
    assert server.count("GET", "watch=1") == server.count("GET", "timeoutSeconds=60") == 1


def test_list_cut_between_pages_is_discarded(
    server: Loopback, cluster: Cluster, stop: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it named may be gone when the next list comes, and nothing else would tell."""
    item = dict(server.objects["experiments", "gan", "random-ok"])

    def pages(*_: object, **__: object) -> Iterator[dict[str, object]]:
        yield {"items": [item], "metadata": {"resourceVersion": "1"}}
        raise Expired("the continue token is too old")

    whole = cluster.pages
    monkeypatch.setattr(cluster, "pages", pages)
    changes = follow(cluster, EXPERIMENTS, stop, namespace="gan", first_wait=0.01)
    assert [next(changes).kind for _ in range(2)] == [ChangeKind.LISTING, ChangeKind.LISTED]
    monkeypatch.setattr(cluster, "pages", whole)
    assert next(changes).kind is ChangeKind.LISTING
