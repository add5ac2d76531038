"""Odd answers of an API server: each is one ClusterError, in bounded time and memory."""

from __future__ import annotations

import copy
import itertools
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.clusters import engine_on
from tests.tuner.loopback import Loopback, many
from tuner.engines.katib import KatibEngine
from tuner.errors import ClusterError, GantuneError, Timeout, Unreachable
from tuner.kube import EXPERIMENTS, TRIALS, Cluster
from tuner.kube import client as kube_client

Answer = Callable[[str], Iterator[bytes]]


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], Cluster]]:
    """Makes a cluster whose server answers each path with the chunks of a function."""
    servers = []

    def start(answer: Answer, timeout: float = 5.0) -> Cluster:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Connection", "close")
                self.end_headers()
                try:
                    for chunk in answer(self.path):
                        self.wfile.write(chunk)
                        self.wfile.flush()
                except OSError:  # the client has had enough
                    pass

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
        config = {
            "clusters": [cluster],
            "users": [{"name": "u", "user": {}}],
            "current-context": "x",
            "kind": "Config",
        }
        config |= {
            "apiVersion": "v1",
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        }
        (tmp_path / "config").write_text(json.dumps(config))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        return Cluster.connect(timeout=timeout, tries=1)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"<html>",
        b"\xff\xfe",
        b'{"a":' * 100_000,
        b'{"metadata": null}',
        b'{"metadata": {"name": 7}}',
        b'{"metadata": {"name": "x"}, "status": "Ready"}',
        b'{"metadata": {"name": "x"}, "spec": [1]}',
        b'{"metadata": {"name": "x"}, "spec": ' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001,
    ],
)
def test_object_without_sense_is_unreachable(odd: Callable[..., Cluster], body: bytes) -> None:
    with pytest.raises(Unreachable) as caught:
        odd(lambda path: iter([body])).get(EXPERIMENTS, "x", namespace="gan")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("item", [b"null", b"3", b'"x"', b"{}", b'{"metadata": {}}'])
def test_list_with_an_odd_item_is_unreachable(odd: Callable[..., Cluster], item: bytes) -> None:
    cluster = odd(lambda path: iter([b'{"metadata": null, "items": [' + item + b"]}"]))
    with pytest.raises(Unreachable, match=r"without metadata\.name"):
        list(cluster.list(TRIALS, namespace="gan"))


def test_nulls_mean_nothing(odd: Callable[..., Cluster]) -> None:
    body = b'{"metadata": {"name": "x", "labels": null}, "status": null, "spec": {"a": [null, {"b": null}]}}'
    found = odd(lambda path: iter([body])).get(EXPERIMENTS, "x", namespace="gan")
    assert found == {"metadata": {"name": "x"}, "spec": {"a": [None, {}]}}


@pytest.mark.parametrize("same", [True, False])
def test_endless_list_is_given_up(
    odd: Callable[..., Cluster], same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_client, "_MOST_PAGES", 5)
    tokens = itertools.count()

    def answer(path: str) -> Iterator[bytes]:
        token = "next" if same else f"next{next(tokens)}"
        yield json.dumps({"metadata": {"continue": token}, "items": []}).encode()

    with pytest.raises(Unreachable, match="sends pages without end"):
        list(odd(answer).list(TRIALS, namespace="gan"))


def test_answer_that_trickles_keeps_the_timeout(odd: Callable[..., Cluster]) -> None:
    def answer(path: str) -> Iterator[bytes]:
        while True:
            yield b" "
            time.sleep(0.05)

    with pytest.raises(Timeout, match="did not complete its answer in time"):
        odd(answer, timeout=0.5).get(EXPERIMENTS, "x", namespace="gan")


def test_huge_answer_is_given_up(
    odd: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_client, "_MOST_BYTES", 1 << 20)
    with pytest.raises(Unreachable, match="sends more than 1 MiB"):
        odd(lambda path: itertools.repeat(b" " * 65536)).get(EXPERIMENTS, "x", namespace="gan")


def test_watch_event_without_end_is_given_up(
    odd: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_client, "_MOST_LINE", 1 << 20)
    with pytest.raises(Unreachable, match="sends a line of over 1 MiB"):
        list(odd(lambda path: itertools.repeat(b"a" * 65536)).watch(TRIALS, "1", namespace="gan"))


@pytest.mark.parametrize("event", [b"{}", b"3", b'{"type": "ADDED", "object": {}}', b"[" * 100_000])
def test_odd_watch_event_is_unreachable(odd: Callable[..., Cluster], event: bytes) -> None:
    with pytest.raises(Unreachable):
        list(odd(lambda path: iter([event + b"\n"])).watch(TRIALS, "1", namespace="gan"))


ODD = [
    None,
    "",
    "x",
    0,
    -1,
    3.5,
    True,
    [],
    {},
    [1],
    {"a": 1},
    ["x"],
    "2026-13-45T00:00:00Z",
    10**400,
]


def mutated(item: dict[str, Any], generator: random.Random) -> dict[str, Any]:
    """The object with one to three values replaced, its name apart."""
    found = copy.deepcopy(item)
    for _ in range(generator.choice((1, 2, 3))):
        places = list(_places(found))
        parent, key = generator.choice(places)
        parent[key] = copy.deepcopy(generator.choice(ODD))
    return found


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
        if key not in ("name", "namespace", "metadata", "resourceVersion", "kind", "apiVersion"):
            yield value, key
        if isinstance(item, dict | list):
            yield from _places(item)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_mutated_objects_are_read_or_refused(
    seed: int, server: Loopback, kubeconfig: Path, tmp_path: Path
) -> None:
    generator = random.Random(seed)
    originals = [(plural, copy.deepcopy(item)) for plural, item in many(2)]
    for number in range(40):
        for plural, item in originals:
            server.put(plural, mutated(item, generator))
        engine: KatibEngine = engine_on(tmp_path / str(number), notify=lambda message: None)
        try:
            engine.result("big", with_curves=False)
        except (ClusterError, GantuneError) as error:
            assert "\n" not in str(error)  # noqa: PT017 - both outcomes are right
