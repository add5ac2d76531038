"""Follows the objects of one kind: a list, then a watch, and another list when it is necessary.

    for change in follow(cluster, TRIALS, stop, namespace="gan",
    labels="katib.kubeflow.org/experiment=gan-bayes"): ...

After the server closes a stream normally, the next one continues from the last resourceVersion. A
new list follows a broken connection, or a resourceVersion that is too old (410). The delay after a
failure is 1, 2, 4 ... 30 seconds. An API server that restarts may refuse valid credentials for a
moment. So after the first list, up to three consecutive 401 or 403 responses are retried.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tuner.errors import Forbidden, Timeout, Unreachable
from tuner.kube.client import Cluster
from tuner.kube.errors import Expired
from tuner.kube.resources import Resource
from tuner.kube.streams import Stop

_LONGEST_WAIT = 30.0
_REFUSALS = 3  # consecutive 401 or 403 responses that are retried


class ChangeKind(StrEnum):
    """The kind of a change."""

    LISTING = "listing"  # a list starts; what an incomplete list contained is void
    LISTED = "listed"  # the object is in the list
    # the list is complete; `object` is empty, and objects that were not listed are gone
    SYNCED = "synced"
    PUT = "put"  # added or modified
    DELETED = "deleted"
    LOST = "lost"  # the connection broke; `object` is {"message"}
    REFUSED = "refused"  # 401 or 403, which is retried; `object` is {"message"}


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the known objects of `resource`."""

    kind: ChangeKind
    resource: Resource
    object: dict[str, Any]


def follow(
    cluster: Cluster,
    resource: Resource,
    stop: Stop,
    *,
    namespace: str,
    labels: str = "",
    fields: str = "",
    first_wait: float = 1.0,
) -> Iterator[Change]:
    """Yield changes until `stop` is set. Raises Forbidden and NotFound, from which no retry recovers."""
    version, wait, listed, refused = "", first_wait, False, 0
    where: Any = {"namespace": namespace, "labels": labels, "fields": fields}
    while not stop.is_set():
        began = time.monotonic()
        try:
            if not version:
                version = yield from _list(cluster, resource, where)
                listed = True
            for event in cluster.watch(resource, version, stop=stop, **where):
                version = str(
                    (event["object"].get("metadata") or {}).get("resourceVersion", version)
                )
                wait = first_wait
                if event["type"] != "BOOKMARK":
                    kind = ChangeKind.DELETED if event["type"] == "DELETED" else ChangeKind.PUT
                    yield Change(kind, resource, event["object"])
                if stop.is_set():
                    return
            refused = 0
            if time.monotonic() - began > first_wait:
                continue
        except Expired:
            version = ""
        except (Unreachable, Timeout, Forbidden) as error:
            refused = refused + 1 if isinstance(error, Forbidden) else 0
            if refused > (_REFUSALS if listed else 0):
                raise
            version = ""
            if not stop.is_set():
                kind = ChangeKind.REFUSED if isinstance(error, Forbidden) else ChangeKind.LOST
                yield Change(kind, resource, {"message": str(error)})
        stop.wait(wait)
        wait = min(wait * 2, _LONGEST_WAIT)


def _list(
    cluster: Cluster, resource: Resource, where: dict[str, Any]
) -> Generator[Change, None, str]:
    """Yield the objects that exist, and return the resourceVersion to watch from."""
    version = ""
    yield Change(ChangeKind.LISTING, resource, {})
    for page in cluster.pages(resource, **where):
        for item in page["items"]:
            yield Change(ChangeKind.LISTED, resource, item)
        version = str(page["metadata"]["resourceVersion"])
    yield Change(ChangeKind.SYNCED, resource, {})
    return version
