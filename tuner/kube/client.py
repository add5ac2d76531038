"""A connection to one cluster: requests with typed errors, retries of GETs, and watch streams.

A GET is sent up to four times, with a backoff of a few seconds at most. A create, patch or delete
is sent once. Only after an admission webhook timed out, a create is sent again, because nothing was
created.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

from tuner.commands import gantune
from tuner.errors import GantuneError, NoCluster, Timeout, Unreachable
from tuner.kube.errors import (
    Expired,
    Request,
    WebhookDown,
    from_exception,
    from_status,
    hidden,
    one_line,
)
from tuner.kube.resources import EXPERIMENTS, PODS, Resource
from tuner.kube.streams import KEEPALIVE, Stop

Json = dict[str, Any]
T = TypeVar("T")
_TRIES = 4
_PAGE = 250  # objects of a page, so that 2,000 trials are never in memory as JSON at once
_MOST_PAGES = 400  # of one list: 100,000 objects
_MOST_BYTES = 64 << 20  # of one answer; a page of trials has about 2 MiB
_MOST_LINE = 16 << 20  # bytes of a watch event or a line of a log
_CHUNK = 1 << 16
_LOG_TIMES = 10  # a complete log may take so many times the timeout of a request
_MERGE = "application/merge-patch+json"
_POD_NAMESPACE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"


class Cluster:
    """A connection to one API server. `namespace` is the kubeconfig context's, "" where it names none.

    `in_pod` is True if the service account of this pod was used. The names of the cluster's
    services resolve then.
    """

    def __init__(
        self,
        api: Any,
        namespace: str = "",
        *,
        timeout: float = 30.0,
        tries: int = _TRIES,
        in_pod: bool = False,
    ) -> None:
        self._api, self.namespace, self._timeout, self._tries, self.in_pod = (
            api,
            namespace,
            timeout,
            tries,
            in_pod,
        )
        self._backoff = 0.5  # seconds before the second try

    @classmethod
    def connect(
        cls, context: str | None = None, *, timeout: float = 30.0, tries: int = _TRIES
    ) -> Cluster:
        """Connect by the kubeconfig (KUBECONFIG, ~/.kube/config), else as a pod by its service account.

        `timeout` is in seconds per request. A GET is sent up to `tries` times. This method sends no
        request.

        Raises NoCluster if there is neither, and Unreachable if the context or KUBECONFIG is set
        but cannot be used.
        """
        try:
            from kubernetes import client, config
        except ImportError as error:
            raise NoCluster(
                "no cluster: its client is not installed: pip install 'gan-tuner[cluster]'"
            ) from error
        configuration = client.Configuration()
        configuration.retries = False  # this class retries; urllib3 must not send a create twice
        # the library reads the variable only once, when it is imported
        chosen = os.environ.get("KUBECONFIG")
        file = chosen or os.path.expanduser("~/.kube/config")
        try:
            config.load_kube_config(file, context=context, client_configuration=configuration)
            namespace, in_pod = _context_namespace(config, file, context), False
        except Exception as error:  # of the YAML parser, a certificate's file or a login helper
            lacks = chosen and not any(os.path.exists(part) for part in file.split(os.pathsep))
            why = "no such file" if lacks else one_line(str(error), 200)
            if context:
                raise Unreachable(
                    f"the kubeconfig has no usable context {context}: {why}"
                ) from error
            if chosen:  # the pod's own cluster must not replace the one that the user named
                raise Unreachable(
                    f"KUBECONFIG={chosen} cannot be used ({why}): fix it, or unset it"
                ) from error
            try:
                config.load_incluster_config(client_configuration=configuration)
            except config.ConfigException:
                raise NoCluster(
                    f"no cluster: not in a pod, and no usable kubeconfig ({why}): set KUBECONFIG, or run a search here "
                    f"with `{gantune('run', 'FILE', '--local')}`"
                ) from error
            namespace, in_pod = _pod_namespace(), True
        api = client.ApiClient(configuration)
        # kubernetes 35 has no option
        api.rest_client.pool_manager.connection_pool_kw["socket_options"] = KEEPALIVE
        return cls(api, namespace, timeout=timeout, tries=tries, in_pod=in_pod)

    @property
    def server(self) -> str:
        """Return the URL of the API server."""
        return str(self._api.configuration.host)

    def new_api(self) -> Any:
        """Return another ApiClient for the same cluster. A port-forward temporarily replaces its `request` method."""
        return type(self._api)(self._api.configuration)

    def get(self, resource: Resource, name: str, *, namespace: str = "") -> Json:
        """Return one object. Raises NotFound, Forbidden, Unreachable, Timeout."""
        request = Request("get", resource, namespace, name)
        return self._object(self._read(request, resource.path(namespace, name)), request)

    def pages(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        limit: int = _PAGE,
    ) -> Iterator[Json]:
        """Yield the pages of a list, with `items` and `metadata.resourceVersion`. Limit 0 requests a single page."""
        query = {"limit": str(limit)} | _selectors(labels, fields)
        request, path = Request("list", resource, namespace), resource.path(namespace)
        for _ in range(_MOST_PAGES):
            page = self._read(request, path, query)
            page["metadata"] = metadata = (
                page["metadata"] if isinstance(page.get("metadata"), dict) else {}
            )
            page["items"] = [self._object(item, request) for item in page.get("items") or ()]
            yield page
            after = metadata.get("continue")
            if not after:
                return
            if after == query.get("continue"):
                break
            query = {**query, "continue": str(after)}
        raise Unreachable(
            f"{request}: {self.server} sends pages without end, so this list was given up"
        )

    def list(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        limit: int = _PAGE,
    ) -> Iterator[Json]:
        """Yield the objects of a list. A list that expires between two pages is read again once."""
        seen: set[str] = set()
        for attempt in range(2):
            try:
                for page in self.pages(
                    resource, namespace=namespace, labels=labels, fields=fields, limit=limit
                ):
                    for item in page["items"]:
                        if (name := item["metadata"]["name"]) not in seen:
                            seen.add(name)
                            yield item
                return
            except Expired:
                if attempt:
                    raise

    def create(self, resource: Resource, body: Json, *, namespace: str) -> Json:
        """Create an object. Raises Denied with the webhook's message, and Conflict if the name is taken."""
        request = Request("create", resource, namespace, body.get("metadata", {}).get("name", ""))
        path = resource.path(namespace)
        how: dict[str, Any] = {"body": body, "content_type": "application/json"}
        try:
            return self._json(request, "POST", path, **how)
        except WebhookDown:
            time.sleep(self._backoff * 4)
            return self._json(request, "POST", path, **how)

    def patch(
        self, resource: Resource, name: str, body: Json, *, namespace: str, sub: str = ""
    ) -> Json:
        """Send a merge patch."""
        request = Request("patch", resource, namespace, name, sub)
        return self._json(
            request, "PATCH", resource.path(namespace, name, sub), body=body, content_type=_MERGE
        )

    def delete(self, resource: Resource, name: str, *, namespace: str) -> None:
        """Delete an object. The server deletes its dependents in the background."""
        request = Request("delete", resource, namespace, name)
        self._json(
            request,
            "DELETE",
            resource.path(namespace, name),
            query={"propagationPolicy": "Background"},
        )

    def watch(
        self,
        resource: Resource,
        version: str,
        *,
        namespace: str,
        labels: str = "",
        fields: str = "",
        seconds: int = 60,
        stop: Stop | None = None,
    ) -> Iterator[Json]:
        """Yield the changes since `version` as {"type", "object"}, until the server closes the stream after `seconds`.

        Raises Expired on 410 (an ERROR event in a stream whose status is 200), Unreachable if the
        connection breaks or `stop` closes it, and Timeout if the server sends nothing for too long.
        """
        query = _selectors(labels, fields) | {
            "watch": "1",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
        }
        request = Request("watch", resource, namespace)
        query["allowWatchBookmarks"] = "true"
        for line in self._lines(
            request, resource.path(namespace), query, seconds + self._timeout, stop
        ):
            event = _event(line, request)
            if event["type"] == "ERROR":
                status = event["object"]
                code = status.get("code")
                raise from_status(
                    code if isinstance(code, int) else 500, json.dumps(status), request
                )
            if event["type"] != "BOOKMARK":
                event["object"] = self._object(event["object"], request)
            yield event

    def log(
        self,
        pod: str,
        container: str,
        *,
        namespace: str,
        tail: int | None = None,
        since: float | None = None,
    ) -> str:
        """Return the log of a container so far; with `tail` its last lines, with `since` the last so many seconds.

        Raises NotFound if the pod is gone, and Denied if the container has not started.
        """
        query = {"container": container} | ({"tailLines": str(tail)} if tail else {})
        if since is not None:
            query["sinceSeconds"] = str(max(1, int(since)))
        request = Request("get", PODS, namespace, pod, "log")
        path, seconds = PODS.path(namespace, pod, "log"), self._timeout * _LOG_TIMES
        return self._try(lambda: self._text(request, "GET", path, query=query, seconds=seconds))

    def log_lines(self, pod: str, container: str, *, namespace: str) -> Iterator[str]:
        """Yield the lines of a container's log as they are written, until the container exits.

        A log may be silent for hours, so reading has no timeout. TCP keepalive detects a dead
        connection.
        """
        request = Request("get", PODS, namespace, pod, "log")
        query = {"container": container, "follow": "true"}
        for line in self._lines(request, PODS.path(namespace, pod, "log"), query, None, None):
            yield line.decode("utf-8", "replace")

    @property
    def _both(self) -> tuple[float, float]:
        """Return the timeouts to connect and to read. kubernetes 35 ignores a single timeout that is a float."""
        return self._timeout, self._timeout

    def _read(self, request: Request, path: str, query: Mapping[str, str] | None = None) -> Json:
        return self._try(lambda: self._json(request, "GET", path, query=query))

    def _try(self, send: Callable[[], T]) -> T:
        for attempt in range(self._tries):
            try:
                return send()
            except (Unreachable, Timeout):
                if attempt >= self._tries - 1:
                    raise
                time.sleep(min(self._backoff * 2**attempt, 5.0))
        raise AssertionError("unreachable")

    def _json(self, request: Request, method: str, path: str, **how: Any) -> Json:
        text = self._text(request, method, path, **how)
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise Unreachable(
                f"{self.server} does not answer like an API server: {one_line(text, 80)}"
            ) from error
        if not isinstance(answer, dict):
            raise Unreachable(
                f"{self.server} does not answer like an API server: {one_line(text, 80)}"
            )
        return answer

    def _object(self, item: Any, request: Request) -> Json:
        """Return an object as the other modules expect it: with a name, and without null values."""
        try:
            found = _without_nulls(item)
        except RecursionError:
            found = None
        metadata = found.get("metadata") if isinstance(found, dict) else None
        if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
            shown = one_line(repr(item)[:200], 80)
            raise Unreachable(
                f"{request}: {self.server} sends an object without metadata.name: {shown}"
            )
        for key in ("spec", "status"):
            if not isinstance(found.get(key, {}), dict):
                raise Unreachable(
                    f"{request}: {self.server} sends {metadata['name']} with a {key} that is no object"
                )
        return dict(found)

    def _text(
        self, request: Request, method: str, path: str, *, seconds: float | None = None, **how: Any
    ) -> str:
        """Return a complete answer. Raises Timeout if it takes longer than `seconds`, by default one timeout."""
        with _translated(request, self.server):
            response = self._open(method, path, timeout=self._both, **how)
            until = time.monotonic() + (seconds or self._timeout)
            chunks: list[bytes] = []
            size, complete = 0, False
            try:
                while chunk := response.read1(_CHUNK):
                    chunks.append(chunk)
                    size += len(chunk)
                    if size > _MOST_BYTES:
                        raise Unreachable(
                            f"{request}: {self.server} sends more than {_MOST_BYTES >> 20} MiB"
                        )
                    if time.monotonic() > until:
                        raise Timeout(
                            f"{request}: {self.server} did not complete its answer in time"
                        )
                complete = True
                return b"".join(chunks).decode("utf-8", "replace")
            finally:
                response.release_conn() if complete else response.close()

    def _lines(
        self,
        request: Request,
        path: str,
        query: Mapping[str, str],
        timeout: float | None,
        stop: Stop | None,
    ) -> Iterator[bytes]:
        with _translated(request, self.server):
            response = self._open("GET", path, query=query, timeout=(self._timeout, timeout))
            rest = b""
            try:
                with stop.shuts(response.fileno()) if stop else nullcontext():
                    for chunk in response.stream(65536):
                        *whole, rest = (rest + chunk).split(b"\n")
                        if len(rest) > _MOST_LINE:
                            raise Unreachable(
                                f"{request}: {self.server} sends a line of over {_MOST_LINE >> 20} MiB"
                            )
                        yield from (line for line in whole if line.strip())
                if rest.strip():
                    yield rest
            finally:
                response.close()

    def _open(
        self,
        method: str,
        path: str,
        *,
        timeout: Any,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        content_type: str = "",
    ) -> Any:
        headers = {"Accept": "application/json, */*"} | (
            {"Content-Type": content_type} if content_type else {}
        )
        return self._api.call_api(
            path,
            method,
            query_params=[*(query or {}).items()],
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
            _preload_content=False,
            _return_http_data_only=True,
            _request_timeout=timeout,
        )


def has_katib(context: str | None = None, *, timeout: float = 3.0) -> tuple[bool, str]:
    """Return whether the kubeconfig reaches a cluster with Katib, and why. Raises no ClusterError."""
    try:
        cluster = Cluster.connect(context, timeout=timeout)
        root = EXPERIMENTS.path().rsplit("/", 1)[0]
        groups = cluster._json(Request("get", EXPERIMENTS), "GET", root)
    except GantuneError as error:
        return False, str(error)
    if not any(resource.get("name") == "experiments" for resource in groups.get("resources", ())):
        return False, f"{cluster.server} has no Katib (no CRD experiments.kubeflow.org)"
    return True, f"{cluster.server} has Katib"


@contextmanager
def _translated(request: Request, server: str) -> Iterator[None]:
    """Turn the exceptions of the kubernetes client and of urllib3 into ClusterErrors, with their causes."""
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except (ApiException, AttributeError) as error:
        said = hidden(error, ApiException)
        if said is None:
            raise
        body = (
            said.body.decode("utf-8", "replace")
            if isinstance(said.body, bytes)
            else str(said.body or "")
        )
        if said.status:
            raise from_status(int(said.status), body, request) from error
        raise from_exception(said, request, server) from error
    except (HTTPError, OSError) as error:
        raise from_exception(error, request, server) from error


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _selectors(labels: str, fields: str) -> dict[str, str]:
    pairs = {"labelSelector": labels, "fieldSelector": fields}
    return {key: value for key, value in pairs.items() if value}


def _event(line: bytes, request: Request) -> Json:
    try:
        event = json.loads(line)
        return {"type": str(event["type"]), "object": dict(event["object"])}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Unreachable(
            f"{request}: the watch event cannot be parsed: {one_line(repr(line), 80)}"
        ) from error


def _context_namespace(config: Any, file: str | None, context: str | None) -> str:
    contexts, active = config.list_kube_config_contexts(file)
    chosen = next((c for c in contexts if c["name"] == context), None) if context else active
    return str(((chosen or {}).get("context") or {}).get("namespace") or "")


def _pod_namespace() -> str:
    try:
        with open(_POD_NAMESPACE, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def plain(model: Any) -> Any:
    """Return a model of kubernetes or kubeflow-katib, with all models in it, as dicts with the API's keys."""
    from kubernetes.client import ApiClient

    return ApiClient().sanitize_for_serialization(model)
