"""List, then watch, then list again when it must be: a kind of object followed for as long as one likes.

    for change in follow(cluster, TRIALS, stop, namespace="gan", labels="katib.kubeflow.org/experiment=gan-bayes"): ...

A stream that the server ends in good order continues from the last resourceVersion; one that is cut, or too old (410),
begins with a new list. Between failures it waits 1, 2, 4 ... 30 seconds. An API server that restarts may refuse good
credentials for a moment, so once a list has come, a few refusals in a row are failures like any other.
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
_REFUSALS = 3  # 401 or 403 in a row that a watch survives


class ChangeKind(StrEnum):
    """What a change says of its object."""

    LISTING = "listing"  # a list begins; one that was cut off before it was complete counts no more
    LISTED = "listed"  # it exists, as a list says
    SYNCED = "synced"  # the list is complete; `object` is empty, what was not listed is gone
    PUT = "put"  # added or modified
    DELETED = "deleted"
    LOST = "lost"  # the connection; `object` holds {"message"}
    REFUSED = "refused"  # 401 or 403, which is tried again; `object` holds {"message"}


@dataclass(frozen=True, slots=True)
class Change:
    """One step in what is known of `resource`."""

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
    """Changes until `stop` is set. Raises what does not recover by itself: Forbidden, NotFound."""
    version, wait, listed, refused = "", first_wait, False, 0
    where: Any = {"namespace": namespace, "labels": labels, "fields": fields}
    while not stop.is_set():
        began = time.monotonic()
        try:
            if not version:
                version = yield from _list(cluster, resource, where)
                listed = True
            for event in cluster.watch(resource, version, stop=stop, **where):
                version = str((event["object"].get("metadata") or {}).get("resourceVersion", version))
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


def _list(cluster: Cluster, resource: Resource, where: dict[str, Any]) -> Generator[Change, None, str]:
    """What there is now, and the resourceVersion to watch from."""
    version = ""
    yield Change(ChangeKind.LISTING, resource, {})
    for page in cluster.pages(resource, **where):
        for item in page["items"]:
            yield Change(ChangeKind.LISTED, resource, item)
        version = str(page["metadata"]["resourceVersion"])
    yield Change(ChangeKind.SYNCED, resource, {})
    return version
