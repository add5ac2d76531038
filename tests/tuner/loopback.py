"""A Kubernetes API server on the loopback: real HTTP, real watch streams, what a real one said (recordings/).

    with Loopback() as server:
        server.replay("random-ok")          # at once; or step by step: for _ in server.steps("random-ok"): ...
        cluster = Cluster.connect()         # after server.kubeconfig(path) and KUBECONFIG=path

It keeps objects and a history with resourceVersions, answers get, list (selectors, paging), watch
(with bookmarks), create, merge patch under the webhook's rules, delete (with finalizers) and logs
to whoever bears the token, counts
requests, and fails on demand: scripted answers, cut or mute watches, expired versions, silence.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.tuner.apihandler import RECORDINGS, RESPONSES, TOKEN, Handler
from tests.tuner.apirules import matches

SCENARIOS = sorted(path.stem for path in RECORDINGS.glob("*.jsonl"))
Key = tuple[str, str, str]  # plural, namespace, name


def changes(scenario: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The changes of a recorded scenario in order, and the logs by "pod/container"."""
    *lines, last = (RECORDINGS / f"{scenario}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines], json.loads(last)["logs"]


class Loopback:
    """The server. Thread-safe; use as a context manager. `tls` is (certificate, key), as files."""

    def __init__(self, tls: tuple[Path, Path] | None = None) -> None:
        self.tls = tls
        self.objects: dict[Key, dict[str, Any]] = {}
        # version, plural, namespace, type, object
        self.history: list[tuple[int, str, str, str, dict[str, Any]]] = []
        self.logs: dict[str, str] = {}
        self.requests: list[tuple[str, str]] = []  # method, path with query
        # method, part of the path, status, body; used once each
        self.scripted: list[tuple[str, str, int, Any]] = []
        self.version, self.oldest = 1000, 0
        self.changed = threading.Condition()
        self.streams: set[Any] = set()
        # hears of each object created by POST
        self.controller: Callable[[dict[str, Any]], None] = lambda item: None
        self.forwards: dict[str, tuple[str, int]] = {}  # where a pod's forwarded port leads
        self.katib = True
        # when True, connections are closed unanswered, as by a restarting API server
        self.silent = False
        # when True, watches say nothing and do not end, as behind a dead load balancer
        self.mute = False
        # when True, what has finalizers is only marked by DELETE; `remove` lets it go
        self.finalizing = False
        for name in ("namespace", "katib-config"):
            body = RESPONSES[name]["body"]
            self.put("namespaces" if name == "namespace" else "configmaps", copy.deepcopy(body))
        for node in RESPONSES["nodes"]["body"]["items"]:
            self.put("nodes", copy.deepcopy(node))

    def __enter__(self) -> Loopback:
        handler = type("BoundHandler", (Handler,), {"loopback": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.cut_watches()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.server.server_port}"

    def kubeconfig(self, path: Path, namespace: str = "gan") -> Path:
        """Write a kubeconfig that leads here."""
        context = {"cluster": "loopback", "user": "someone"} | (
            {"namespace": namespace} if namespace else {}
        )
        shape = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "loopback",
            "clusters": [{"name": "loopback", "cluster": {"server": self.url}}],
            "users": [{"name": "someone", "user": {"token": TOKEN}}],
            "contexts": [{"name": "loopback", "context": context}],
        }
        path.write_text(json.dumps(shape))
        return path

    def put(self, plural: str, item: dict[str, Any]) -> dict[str, Any]:
        """Add or change an object, as a controller would."""
        with self.changed:
            metadata = item.setdefault("metadata", {})
            key = (plural, metadata.get("namespace", ""), metadata["name"])
            kind = "MODIFIED" if key in self.objects else "ADDED"
            self.version += 1
            metadata["resourceVersion"] = str(self.version)
            metadata.setdefault("uid", f"uid-{self.version}")
            metadata.setdefault("creationTimestamp", "2026-11-22T19:00:00Z")
            self.objects[key] = item
            self._record(plural, key[1], kind, item)
            return item

    def remove(self, plural: str, namespace: str, name: str) -> dict[str, Any] | None:
        """Delete an object and, for Katib's kinds, all that it owns."""
        with self.changed:
            item = self.objects.pop((plural, namespace, name), None)
            if item is None:
                return None
            self.version += 1
            item = copy.deepcopy(item)
            item["metadata"]["resourceVersion"] = str(self.version)
            self._record(plural, namespace, "DELETED", item)
            if plural in ("experiments", "trials"):
                label = "katib.kubeflow.org/" + plural.removesuffix("s")
                for other in list(self.objects):
                    labels = (
                        self.objects[other]["metadata"].get("labels") or {}
                        if other in self.objects
                        else {}
                    )
                    if labels.get(label) == name and other[1] == namespace:
                        self.remove(*other)
            return item

    def _record(self, plural: str, namespace: str, kind: str, item: dict[str, Any]) -> None:
        self.history.append((self.version, plural, namespace, kind, copy.deepcopy(item)))
        self.changed.notify_all()

    def steps(
        self, scenario: str, namespace: str = "gan", uid: str = ""
    ) -> Iterator[dict[str, Any]]:
        """Replay a scenario, one recorded change a step, in `namespace`; `uid` is the Experiment's where it exists."""
        recorded, logs = changes(scenario)
        self.logs.update(logs)
        for change in recorded:
            item = copy.deepcopy(change["object"])
            item["metadata"]["namespace"] = namespace
            if uid and change["kind"] == "experiments":
                item["metadata"]["uid"] = uid
            if change["type"] == "DELETED":
                self.remove(change["kind"], namespace, item["metadata"]["name"])
            else:
                self.put(change["kind"], item)
            yield change

    def replay(self, scenario: str, namespace: str = "gan") -> None:
        """Replay a scenario to its end, at once."""
        for _ in self.steps(scenario, namespace):
            pass

    def answer(self, method: str, part: str, status: int, body: Any) -> None:
        """Answer the next such request so, whatever is there."""
        self.scripted.append((method, part, status, body))

    def recorded(self, method: str, part: str, name: str) -> None:
        """Answer the next such request as responses.json has it under `name`."""
        self.answer(method, part, RESPONSES[name]["status"], RESPONSES[name]["body"])

    def cut_watches(self) -> None:
        """Close every open stream in mid-chunk."""
        for stream in list(self.streams):
            with contextlib.suppress(OSError):
                stream.shutdown(2)

    def expire(self) -> None:
        """Forget the history: whoever watches from an older version gets 410, and open streams end."""
        with self.changed:
            self.version += 1
            self.oldest = self.version
            self.history.clear()
        self.cut_watches()

    def count(self, method: str = "", part: str = "") -> int:
        """Requests so far."""
        return sum(one.startswith(method) and part in path for one, path in self.requests)

    def find(self, plural: str, namespace: str, query: dict[str, str]) -> list[dict[str, Any]]:
        """The objects that a list with these selectors yields, by name."""
        with self.changed:
            keys = sorted(
                key for key in self.objects if key[0] == plural and namespace in ("", key[1])
            )
            return [self.objects[key] for key in keys if matches(self.objects[key], query)]


def many(
    count: int, experiment: str = "big", namespace: str = "gan"
) -> Iterator[tuple[str, dict[str, Any]]]:
    """An Experiment with `count` finished trials, as (plural, object): mutated copies of the first of random-ok."""
    recorded, _ = changes("random-ok")
    last = {change["kind"]: change["object"] for change in recorded}
    item = copy.deepcopy(last["experiments"])
    item["metadata"] |= {"name": experiment, "namespace": namespace}
    item["spec"]["maxTrialCount"] = count
    item["status"]["currentOptimalTrial"]["bestTrialName"] = f"{experiment}-{count - 1:08d}"
    yield "experiments", item
    for index, number in zip(range(count), itertools.count(count, -1), strict=False):
        one = copy.deepcopy(last["trials"])
        one["metadata"] |= {
            "name": f"{experiment}-{index:08d}",
            "namespace": namespace,
            "labels": {"katib.kubeflow.org/experiment": experiment},
            "uid": f"trial-{index}",
        }
        value = f"{number}.5"
        one["status"]["observation"]["metrics"][0] |= {"latest": value, "min": value, "max": value}
        one["spec"]["runSpec"] = item["spec"]["trialTemplate"]["trialSpec"]
        yield "trials", one
