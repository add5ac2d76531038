"""How the loopback API server answers one HTTP request (tests/tuner/loopback.py keeps the objects)."""

from __future__ import annotations

import copy
import json
import time
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

from tests.tuner import websocket
from tests.tuner.apirules import matches, merged, refused

if TYPE_CHECKING:
    from tests.tuner.loopback import Loopback

RECORDINGS = Path(__file__).parent / "recordings"
RESPONSES: dict[str, Any] = json.loads((RECORDINGS / "responses.json").read_text())
TOKEN = "t"  # what a kubeconfig for this server holds
KATIB_KINDS = {"experiments": "Experiment", "trials": "Trial", "suggestions": "Suggestion"}


def _time_of_line(line: str) -> datetime:
    return datetime.fromisoformat(line[:19] or "0002-01-01T00:00:00")


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    loopback: Loopback  # set by a subclass for each server
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
        group, rest = (
            ("/".join(parts[1:3]), parts[3:]) if parts[0] == "apis" else ("core", parts[2:])
        )
        if group.startswith("kubeflow.org") and (
            not server.katib or group != "kubeflow.org/v1beta1"
        ):
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
            elif sub == "exec":
                websocket.execute(self, parse_qs(urlsplit(self.path).query)["command"])
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
        self._send(
            200, {"kind": "List", "metadata": metadata, "items": found[start : start + limit]}
        )

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
                    fresh = [c for c in server.history if c[0] > after] or (
                        server.changed.wait(0.2) and []
                    )
                for version, its, where, kind, item in fresh or ():
                    after = version
                    if its == plural and where == namespace and matches(item, query):
                        self._chunk(json.dumps({"type": kind, "object": item}) + "\n")
            while server.mute:
                time.sleep(0.02)
            if query.get("allowWatchBookmarks"):  # as a real one does shortly before the end
                bookmark = {
                    "kind": KATIB_KINDS.get(plural, ""),
                    "metadata": {"resourceVersion": str(after)},
                }
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
            self._send(
                409, {"kind": "Status", "message": message, "reason": "Conflict", "code": 409}
            )
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
            item["metadata"] |= {
                "deletionTimestamp": "2026-11-22T19:19:13Z",
                "deletionGracePeriodSeconds": 0,
            }
            server.put(plural, item)
        if not (server.finalizing and item["metadata"].get("finalizers")):
            server.remove(plural, namespace, name)
        self._send(200, item)

    def _log(self, pod: dict[str, Any], query: dict[str, str]) -> None:
        """As a kubelet: 400 for a container that the pod has not, or that has not begun."""
        name, container = pod["metadata"]["name"], query.get("container", "")
        statuses = pod.get("status", {}).get("containerStatuses") or ()
        waiting = {
            one["name"]: one["state"]["waiting"]
            for one in statuses
            if "waiting" in one.get("state", {})
        }
        text = self.loopback.logs.get(f"{name}/{container}")
        if text is None and container not in [
            one["name"] for one in pod.get("spec", {}).get("containers", ())
        ]:
            self._bad(f"container {container} is not valid for pod {name}")
        elif text is None and container in waiting:
            why = waiting[container].get("reason", "")
            self._bad(f'container "{container}" in pod "{name}" is waiting to start: {why}')
        else:
            lines = (text or "").splitlines()  # recorded with --timestamps
            if since := query.get("sinceSeconds"):  # the newest line is of now
                first = max(map(_time_of_line, lines), default=_time_of_line("")) - timedelta(
                    seconds=int(since)
                )
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
        self.send_header(
            "Content-Type", "text/plain" if isinstance(body, str) else "application/json"
        )
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()
