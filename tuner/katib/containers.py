"""The containers of a trial template, of any kind that Katib knows: the primary one, and the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tuner.errors import CommandError

# which replica Katib's job-role label calls the master
_PRIMARY_ROLES = ("Master", "Chief", "Launcher", "Worker")


def primary_container(spec: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The container called `name` in any pod template of `spec`; for a TrainJob, which has none, its trainer."""
    for place_ in (*(held for _, _, held in _roles(spec)), spec):
        for container in listed(place_, "containers"):
            if container.get("name") == name:
                return container
    trainer = (spec.get("spec") or {}).get("trainer")
    if spec.get("kind") == "TrainJob" and isinstance(trainer, Mapping):
        return trainer
    known = ", ".join(str(c.get("name")) for c in listed(spec, "containers")) or "none"
    raise CommandError(
        f"primaryContainerName {name!r} must be a container of the trialTemplate, found {known}"
    )


def init_containers(spec: Mapping[str, Any], main: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the init containers of the primary container's pod, without those that stay as sidecars."""
    return [
        one
        for one in _pod(spec, main).get("initContainers") or ()
        if one.get("restartPolicy") != "Always"
    ]


def every_container(spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield all containers and init containers of `spec`, and the trainer of a TrainJob."""
    yield from listed(spec, "containers")
    yield from listed(spec, "initContainers")
    trainer = (spec.get("spec") or {}).get("trainer")
    if isinstance(trainer, Mapping):
        yield trainer


def replicas(spec: Mapping[str, Any], main: Mapping[str, Any]) -> Iterator[str]:
    """Yield the pods of a job in addition to that of the container `main`, in words."""
    body = spec.get("spec") or {}
    roles = [(role, held) for _, role, held in _roles(spec)]
    own = next(
        (role for role, held in roles if any(one is main for one in listed(held, "containers"))), ""
    )
    for role, held in roles:
        count = int(held.get("replicas") or 1) - (role == own)
        if count > 0:
            yield f"{count} x {role}"
    nodes = (
        (body.get("trainer") or {}).get("numNodes")
        if spec.get("kind") == "TrainJob"
        else body.get("parallelism")
    )
    if isinstance(nodes, int) and nodes > 1:
        yield f"{nodes - 1} further {'nodes' if spec.get('kind') == 'TrainJob' else 'pods'}"


def sidecars(spec: Mapping[str, Any], main: Mapping[str, Any]) -> Iterator[str]:
    """Yield the other containers of the pod of the container `main`, in words."""
    pod = _pod(spec, main)
    for container in pod.get("containers") or ():
        if container is not main:
            yield f"container {container.get('name')}"
    for container in pod.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            yield f"sidecar {container.get('name')}"


def _roles(spec: Mapping[str, Any]) -> list[tuple[int, str, Mapping[str, Any]]]:
    """Return the replica specs of a training operator's job, the primary one first."""
    found = [
        (
            _PRIMARY_ROLES.index(role) if role in _PRIMARY_ROLES else len(_PRIMARY_ROLES),
            str(role),
            held,
        )
        for key, roles in (spec.get("spec") or {}).items()
        if str(key).endswith("ReplicaSpecs") and isinstance(roles, Mapping)
        for role, held in roles.items()
        if isinstance(held, Mapping)
    ]
    return sorted(found, key=lambda item: item[0])


def _pod(node: Any, main: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the pod that holds the container `main`, {} for a TrainJob, whose pod is in its runtime."""
    if isinstance(node, Mapping):
        if any(one is main for one in node.get("containers") or ()):
            return node
        node = list(node.values())
    if isinstance(node, list | tuple):
        return next((pod for pod in (_pod(item, main) for item in node) if pod), {})
    return {}


def listed(node: Any, name: str) -> Iterator[Mapping[str, Any]]:
    """Return the objects of every list called `name`, at any depth, because kinds differ in where the pod is."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == name and isinstance(value, list | tuple):
                yield from (item for item in value if isinstance(item, Mapping))
            else:
                yield from listed(value, name)
    elif isinstance(node, list | tuple):
        for item in node:
            yield from listed(item, name)


def items(container: Mapping[str, Any]) -> list[str]:
    """Return `command` and `args` of a container."""
    return [str(part) for key in ("command", "args") for part in container.get(key) or ()]
