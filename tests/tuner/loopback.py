"""A Kubernetes API server on the loopback: real HTTP, real watch streams, what a real one said (recordings/).

    with Loopback() as server:
        server.replay("random-ok")          # at once; or step by step: for _ in server.steps("random-ok"): ...
        cluster = Cluster.connect()         # after server.kubeconfig(path) and KUBECONFIG=path

It keeps objects and a history with resourceVersions, answers get, list (selectors, paging), watch (with bookmarks),
create, merge patch under the webhook's rules, delete (with finalizers) and logs to whoever bears the token, counts
requests, and fails on demand: scripted answers, cut or mute watches, expired versions, silence.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.tuner import websocket
from tests.tuner.apirules import matches, merged, refused

RECORDINGS = Path(__file__).parent / "recordings"
RESPONSES: dict[str, Any] = json.loads((RECORDINGS / "responses.json").read_text())
SCENARIOS = sorted(path.stem for path in RECORDINGS.glob("*.jsonl"))
TOKEN = "t"  # what a kubeconfig for this server holds
KATIB_KINDS = {"experiments": "Experiment", "trials": "Trial", "suggestions": "Suggestion"}
Key = tuple[str, str, str]  # plural, namespace, name


def _time_of_line(line: str) -> datetime:
    return datetime.fromisoformat(line[:19] or "0002-01-01T00:00:00")


def changes(scenario: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The changes of a recorded scenario in order, and the logs by "pod/container"."""
    *lines, last = (RECORDINGS / f"{scenario}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines], json.loads(last)["logs"]


class Loopback:
    """The server. Thread-safe; use as a context manager. `tls` is (certificate, key), as files."""

    def __init__(self, tls: tuple[Path, Path] | None = None) -> None:
        self.tls = tls
        self.objects: dict[Key, dict[str, Any]] = {}
        self.history: list[tuple[int, str, str, str, dict[str, Any]]] = []  # version, plural, namespace, type, object
        self.logs: dict[str, str] = {}
        self.requests: list[tuple[str, str]] = []  # method, path with query
        self.scripted: list[tuple[str, str, int, Any]] = []  # method, part of the path, status, body; used once each
        self.version, self.oldest = 1000, 0
        self.changed = threading.Condition()
        self.streams: set[Any] = set()
        self.controller: Callable[[dict[str, Any]], None] = lambda item: None  # hears of each object created by POST
        self.forwards: dict[str, tuple[str, int]] = {}  # where a pod's forwarded port leads
        self.katib = True
        self.silent = False  # when True, connections are closed unanswered, as by a restarting API server
        self.mute = False  # when True, watches say nothing and do not end, as behind a dead load balancer
        self.finalizing = False  # when True, what has finalizers is only marked by DELETE; `remove` lets it go
        for name in ("namespace", "katib-config"):
            body = RESPONSES[name]["body"]
            self.put("namespaces" if name == "namespace" else "configmaps", copy.deepcopy(body))
        for node in RESPONSES["nodes"]["body"]["items"]:
            self.put("nodes", copy.deepcopy(node))

    def __enter__(self) -> Loopback:
        handler = type("Handler", (_Handler,), {"loopback": self})
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
        context = {"cluster": "loopback", "user": "someone"} | ({"namespace": namespace} if namespace else {})
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
                    labels = self.objects[other]["metadata"].get("labels") or {} if other in self.objects else {}
                    if labels.get(label) == name and other[1] == namespace:
                        self.remove(*other)
            return item

    def _record(self, plural: str, namespace: str, kind: str, item: dict[str, Any]) -> None:
        self.history.append((self.version, plural, namespace, kind, copy.deepcopy(item)))
        self.changed.notify_all()

    def steps(self, scenario: str, namespace: str = "gan", uid: str = "") -> Iterator[dict[str, Any]]:
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
            keys = sorted(key for key in self.objects if key[0] == plural and namespace in ("", key[1]))
            return [self.objects[key] for key in keys if matches(self.objects[key], query)]


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    loopback: Loopback
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def _route(self) -> None:
        server = self.loopback
        server.requests.append((self.command, self.path))
        if server.silent:
            self.close_connection = True
            self.connection.shutdown(2)
            return
        size = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(size)) if size else None
        for index, (method, part, status, answer) in enumerate(server.scripted):
            if method == self.command and part in self.path:
                del server.scripted[index]
                self._send(status, answer)
                return
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if (scheme.lower(), token) != ("bearer", TOKEN):
            self._recorded("unauthorized-401")
            return
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        group, rest = ("/".join(parts[1:3]), parts[3:]) if parts[0] == "apis" else ("core", parts[2:])
        if group.startswith("kubeflow.org") and (not server.katib or group != "kubeflow.org/v1beta1"):
            self._recorded("unknown-resource-404")
        elif not rest:
            self._recorded("discovery-groups")
        else:
            namespace = ""
            if rest[0] == "namespaces" and len(rest) > 2:
                namespace, rest = rest[1], rest[2:]
            self._serve(rest, namespace, query, body)

    do_GET = do_POST = do_PATCH = do_DELETE = _route  # noqa: N815

    def _serve(self, rest: list[str], namespace: str, query: dict[str, str], body: Any) -> None:
        plural, name, sub = [*rest, "", ""][:3]
        if self.command == "POST":
            self._create(plural, namespace, query, body)
        elif not name:
            (self._watch if query.get("watch") else self._list)(plural, namespace, query)
        else:
            item = self.loopback.objects.get((plural, namespace, name))
            if item is None:
                self._missing(plural, name)
            elif self.command == "PATCH":
                self._patch(plural, item, sub, body)
            elif self.command == "DELETE":
                self._delete(plural, namespace, item)
            elif sub == "log":
                self._log(item, query)
            elif sub == "portforward":
                websocket.forward(self, int(query["ports"]), self.loopback.forwards[name])
            else:
                self._send(200, item)

    def _list(self, plural: str, namespace: str, query: dict[str, str]) -> None:
        found = self.loopback.find(plural, namespace, query)
        start, limit = int(query.get("continue", 0)), int(query.get("limit", 0)) or len(found) or 1
        metadata = {"resourceVersion": str(self.loopback.version)}
        if start + limit < len(found):
            metadata["continue"] = str(start + limit)
        self._send(200, {"kind": "List", "metadata": metadata, "items": found[start : start + limit]})

    def _watch(self, plural: str, namespace: str, query: dict[str, str]) -> None:
        server, after = self.loopback, int(query["resourceVersion"])
        if after < server.oldest:
            self._recorded("watch-too-old-410")
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        server.streams.add(self.connection)
        end = time.monotonic() + float(query.get("timeoutSeconds", 60))
        try:
            while time.monotonic() < end and not server.mute:
                with server.changed:
                    fresh = [c for c in server.history if c[0] > after] or (server.changed.wait(0.2) and [])
                for version, its, where, kind, item in fresh or ():
                    after = version
                    if its == plural and where == namespace and matches(item, query):
                        self._chunk(json.dumps({"type": kind, "object": item}) + "\n")
            while server.mute:
                time.sleep(0.02)
            if query.get("allowWatchBookmarks"):  # as a real one does shortly before the end
                bookmark = {"kind": KATIB_KINDS.get(plural, ""), "metadata": {"resourceVersion": str(after)}}
                self._chunk(json.dumps({"type": "BOOKMARK", "object": bookmark}) + "\n")
            self._chunk("")
        except OSError:
            self.close_connection = True
        finally:
            server.streams.discard(self.connection)

    def _create(self, plural: str, namespace: str, query: dict[str, str], body: Any) -> None:
        metadata = body["metadata"]
        if "name" not in metadata:
            metadata["name"] = metadata["generateName"] + "x7k2p"
        if (plural, namespace, metadata["name"]) in self.loopback.objects:
            answer = copy.deepcopy(RESPONSES["create-again-409"]["body"])
            answer["message"] = f'{plural}.kubeflow.org "{metadata["name"]}" already exists'
            self._send(409, answer)
            return
        metadata["namespace"] = namespace
        if query.get("dryRun"):
            self._send(201, body)
            return
        made = copy.deepcopy(self.loopback.put(plural, body))
        self._send(201, made)
        self.loopback.controller(made)

    def _patch(self, plural: str, item: dict[str, Any], sub: str, body: Any) -> None:
        asked = body.get("metadata", {}).get("resourceVersion")
        if asked and asked != item["metadata"]["resourceVersion"]:
            message = f'Operation cannot be fulfilled on {plural}.kubeflow.org "{item["metadata"]["name"]}"'
            self._send(409, {"kind": "Status", "message": message, "reason": "Conflict", "code": 409})
            return
        part = "status" if sub == "status" else "spec"
        changed = copy.deepcopy(item) | {part: merged(item.get(part), body.get(part, {}))}
        if plural == "experiments" and (refusal := refused(item, changed)):
            answer = copy.deepcopy(RESPONSES["patch-parameter-denied"]["body"])
            answer["message"] = (
                f'admission webhook "validator.experiment.katib.kubeflow.org" denied the request: {refusal}'
            )
            self._send(400, answer)
            return
        self._send(200, self.loopback.put(plural, changed))

    def _delete(self, plural: str, namespace: str, item: dict[str, Any]) -> None:
        """What has finalizers is marked first, and goes when its controller lets it."""
        name, server = item["metadata"]["name"], self.loopback
        if item["metadata"].get("finalizers") and "deletionTimestamp" not in item["metadata"]:
            item = copy.deepcopy(item)
            item["metadata"] |= {"deletionTimestamp": "2026-11-22T19:19:13Z", "deletionGracePeriodSeconds": 0}
            server.put(plural, item)
        if not (server.finalizing and item["metadata"].get("finalizers")):
            server.remove(plural, namespace, name)
        self._send(200, item)

    def _log(self, pod: dict[str, Any], query: dict[str, str]) -> None:
        """As a kubelet: 400 for a container that the pod has not, or that has not begun."""
        name, container = pod["metadata"]["name"], query.get("container", "")
        statuses = pod.get("status", {}).get("containerStatuses") or ()
        waiting = {one["name"]: one["state"]["waiting"] for one in statuses if "waiting" in one.get("state", {})}
        text = self.loopback.logs.get(f"{name}/{container}")
        if text is None and container not in [one["name"] for one in pod.get("spec", {}).get("containers", ())]:
            self._bad(f"container {container} is not valid for pod {name}")
        elif text is None and container in waiting:
            why = waiting[container].get("reason", "")
            self._bad(f'container "{container}" in pod "{name}" is waiting to start: {why}')
        else:
            lines = (text or "").splitlines()  # recorded with --timestamps
            if since := query.get("sinceSeconds"):  # the newest line is of now
                first = max(map(_time_of_line, lines), default=_time_of_line("")) - timedelta(seconds=int(since))
                lines = [line for line in lines if _time_of_line(line) >= first]
            lines = [line.partition(" ")[2] for line in lines]
            if tail := query.get("tailLines"):
                lines = lines[-int(tail) :]
            self._send(200, "".join(line + "\n" for line in lines))

    def _bad(self, message: str) -> None:
        self._send(400, {"kind": "Status", "message": message, "reason": "BadRequest", "code": 400})

    def _missing(self, plural: str, name: str) -> None:
        body = copy.deepcopy(RESPONSES["get-404"]["body"])
        group = ".kubeflow.org" if plural in KATIB_KINDS else ""
        body["message"] = f'{plural}{group} "{name}" not found'
        self._send(404, body)

    def _recorded(self, name: str) -> None:
        self._send(RESPONSES[name]["status"], RESPONSES[name]["body"])

    def _send(self, status: int, body: Any) -> None:
        data = (body if isinstance(body, str) else json.dumps(body) + "\n").encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()


def many(count: int, experiment: str = "big", namespace: str = "gan") -> Iterator[tuple[str, dict[str, Any]]]:
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
