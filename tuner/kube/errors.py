"""Turns the exceptions of the kubernetes client into ClusterErrors (tuner.errors).

The status codes are those of a real API server (tests/tuner/recordings/responses.json): 400 if an
admission webhook refuses, 422 if the API server itself refuses a name, and 500 if a webhook does
not answer.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, TypeVar

from tuner.errors import (
    ClusterError,
    Conflict,
    Denied,
    Forbidden,
    NoKatib,
    NotFound,
    Timeout,
    Unreachable,
)
from tuner.katib.facts import GROUP
from tuner.kube.resources import Resource

E = TypeVar("E", bound=BaseException)
INSTALL_KATIB = 'kubectl apply -k "github.com/kubeflow/katib.git/manifests/v1beta1/installs/katib-standalone?ref=v0.19.0"'
RETRIABLE = frozenset({429, 500, 502, 503, 504})
_WEBHOOK = re.compile(r'^admission webhook "([^"]+)" denied the request: ')
# The message of an authorizer, with the verb that is not allowed. Quotas and admission plugins have
# other messages.
_RBAC = re.compile(r"\bcannot ([a-z]+) resource\b")


class Expired(ClusterError):
    """410: the resourceVersion is too old to watch from; list again."""


class WebhookDown(Unreachable):
    """An admission webhook did not answer, so nothing was created. Only this failure of a create is tried again."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request, as a message shows it: `create experiments/gan-bayes in namespace gan`."""

    verb: str
    resource: Resource
    namespace: str = ""
    name: str = ""
    sub: str = ""

    def __str__(self) -> str:
        what = f"{self.resource.plural}/{self.name}" if self.name else self.resource.plural
        return f"{self.verb} {what}" + (f" in namespace {self.namespace}" if self.namespace else "")


def from_status(code: int, body: str, request: Request) -> ClusterError:
    """Return the error for a status outside 2xx. `body` is a Status object, or the plain text of a proxy."""
    message = _message(body)
    webhook = _WEBHOOK.match(message)
    if webhook or code in (400, 422):
        says = f"{webhook[1]} refused: {message[webhook.end() :]}" if webhook else message
        error: ClusterError = Denied(f"{request}: {says}")
    elif code == 401:
        error = Forbidden(
            "the API server does not accept these credentials (401 Unauthorized): log in again"
        )
    elif code == 403:
        refused = _RBAC.search(message)  # a port-forward is a GET that may need the right to create
        rule = (
            f"; the RBAC rule to add: {request.resource.rule(refused[1], request.sub)}"
            if refused
            else ""
        )
        error = Forbidden(f"{message or f'not allowed to {request}'}{rule}")
    elif code == 404:
        error = _not_found(message, body, request)
    elif code == 409:
        error = Conflict(f"{request}: {message}")
    elif code == 410:
        error = Expired(message)
    elif code == 500 and "failed calling webhook" in message:
        error = WebhookDown(
            f"{request}: {message}; Katib's controller may be restarting, try again in a minute"
        )
    elif code == 504:
        error = Timeout(f"{request}: the API server took too long: {message}")
    elif code in RETRIABLE:
        error = Unreachable(f"{request}: the API server answers {code}: {message}")
    else:
        error = ClusterError(f"{request}: the API server answers {code}: {message}")
    return error


def from_exception(error: Exception, request: Request, server: str) -> ClusterError:
    """Return the error for a request without an answer: refused, reset, a wrong certificate, or a timeout."""
    name = type(error).__name__
    if "Timeout" in name:
        return Timeout(f"{request}: {server} did not answer in time")
    if "SSL" in f"{name} {error}" or "certificate" in str(error):
        return Unreachable(
            f"{server}: TLS failed ({one_line(str(error))}): check the cluster's CA in the kubeconfig"
        )
    return Unreachable(
        f"no API server responds at {server} ({one_line(str(error))}): check the kubeconfig's context"
    )


def from_handshake(error: BaseException, request: Request) -> ClusterError | None:
    """Return the error for a websocket that the API server refused to open, None where it did not answer."""
    from websocket import WebSocketBadStatusException

    refused = hidden(error, WebSocketBadStatusException)
    if refused is None:
        return None
    return from_status(
        refused.status_code, (refused.resp_body or b"").decode("utf-8", "replace"), request
    )


def hidden(error: BaseException, kind: type[E]) -> E | None:
    """Return the exception of type `kind` that caused `error`, or `error` itself.

    The kubernetes client decodes the body of each ApiException. Without a body (TLS failed, a
    port-forward was refused) it raises an AttributeError instead.
    """
    link: BaseException | None = error
    while link is not None and not isinstance(link, kind):
        link = link.__context__
    return link


def one_line(text: str, limit: int = 600) -> str:
    """Return `text` in one line, cut after `limit` characters."""
    folded = " ".join(text.split())
    return folded if len(folded) <= limit else folded[: limit - 3] + "..."


def _not_found(message: str, body: str, request: Request) -> NotFound:
    if request.resource.group == GROUP and not body.lstrip().startswith("{"):
        crd = f"{request.resource.plural}.kubeflow.org"
        return NoKatib(f"this cluster has no Katib (no CRD {crd}); install it: {INSTALL_KATIB}")
    where = (
        f" in namespace {request.namespace}"
        if request.namespace and "namespace" not in message
        else ""
    )
    return NotFound((message or f"{request}: not found") + where)


def _message(body: str) -> str:
    """Return the complete message of a Status object in one line, or the start of another text."""
    try:
        status: Any = json.loads(body)
    except ValueError:
        return one_line(body)
    if isinstance(status, dict) and status.get("message"):
        return " ".join(str(status["message"]).split())
    return one_line(body)
