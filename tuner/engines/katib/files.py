"""Copies the files of a trial from the cluster: a short-lived pod reads the volume on which the trial wrote them.

The trial's own pod is gone by then. The copying pod has the trial's image, which the nodes have
already, and its user, but no rights: it passes the Pod Security level restricted and mounts the
volume read-only. The image needs sh, find, stat, sha256sum and tar.
"""

from __future__ import annotations

import re
import secrets
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from tuner.engines.katib import objects
from tuner.engines.katib.clock import Clock
from tuner.errors import ClusterError, CommandError, NotFound, Timeout, UnsupportedError
from tuner.experiment.command import insert
from tuner.experiment.model import Experiment
from tuner.katib.containers import items, primary_container
from tuner.kube import PODS, Cluster
from tuner.kube.execute import execute, pipe
from tuner.result import Trial
from tuner.store.transfer import MOST_FILES, FileRecord, Progress, receive

_MOUNT, _CONTAINER = "/files", "files"
_LIFE = 3600  # seconds after which a forgotten pod ends by itself
_START = 180.0  # seconds for the pod to start
_LIST = 600.0  # seconds to compute the hashes
_MOST_LIST = MOST_FILES * 400  # bytes of the list
_NODE_KEYS = ("kubernetes.io/os", "kubernetes.io/arch")  # that an image depends on
# size, hash and path of each file; GNU and BusyBox have these options
_LISTING = (
    'cd "$1" && find . -type f -exec sh -c '
    '\'for file; do echo "$(stat -c %s "$file") $(sha256sum < "$file") $file"; done\' _ {} +'
)
_LINE = re.compile(r"(\d+) ([0-9a-f]{64}) +-? *\./(.+)")
_TRIAL_NAME = "${trialSpec.Name}"
_NAME_VARIABLE = re.compile(r"\$(?:KATIB_TRIAL_NAME\b|[({]KATIB_TRIAL_NAME[)}])")
_WORD = r"[^\s'\"=:,;|&<>()]*"

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a trial writes its files: a directory of a volume. `claim` is "" if the volume ends with the pod."""

    mount: str
    claim: str
    path: str  # of the directory, below the root of the volume


def place(experiment: Experiment, trial: str) -> Place | None:
    """Return where a trial writes: the directory named after it in a path of its command.

    None if the command has no such path below a volume.
    """
    template = experiment.template
    names = {label: trial for label, key in template.references.items() if key == _TRIAL_NAME}
    spec = insert(template.spec, names)
    try:
        container = primary_container(spec, template.primary_container)
    except CommandError:
        return None
    volumes = {str(one.get("name")): one for one in _pod_spec(spec).get("volumes") or ()}
    written = [*items(container), *(str(one.get("value") or "") for one in _env(container))]
    for mount in container.get("volumeMounts") or ():
        root = str(mount.get("mountPath", "")).rstrip("/")
        volume = volumes.get(str(mount.get("name")), {})
        claim = str((volume.get("persistentVolumeClaim") or {}).get("claimName", ""))
        own = str(mount.get("subPathExpr") or mount.get("subPath") or "")
        own = _NAME_VARIABLE.sub(trial, own)
        if trial in own.split("/"):
            return Place(root, claim, own.strip("/"))
        for text in (_NAME_VARIABLE.sub(trial, each) for each in written):
            for found in re.findall(re.escape(root) + "/" + _WORD, text) if root else ():
                parts = PurePosixPath(found.removeprefix(root)).parts[1:]
                if trial in parts and ".." not in parts:
                    below = parts[: parts.index(trial) + 1]
                    return Place(root, claim, "/".join([*filter(None, [own.strip("/")]), *below]))
    return None


def lost(experiment: Experiment) -> str:
    """Return a sentence if the files of the trials are deleted with their pods, "" otherwise."""
    found = place(experiment, "TRIAL")
    if found is None or found.claim:
        return ""
    return (
        f"the files that trials write to {found.mount} are deleted with their pods: to keep them for `gantune files`, "
        "mount a PersistentVolumeClaim there (chart: checkpoints.enabled=true; docs/how-to/files.md)"
    )


def copy(
    cluster: Cluster,
    experiment: Experiment,
    trial: Trial,
    namespace: str,
    target: Path,
    *,
    progress: Progress,
    notify: Callable[[str], None],
    clock: Clock,
) -> list[FileRecord]:
    """Copy the files of a trial to a new directory, and return what they are.

    Raises UnsupportedError if the volume is gone or shared, NotFound if the trial wrote no file.
    """
    found = place(experiment, trial.name)
    if found is None:
        raise UnsupportedError(
            f"{experiment.name} does not say where a trial writes its files: give each trial a directory with its name "
            "on a volume, such as --output-dir=/output/${trialParameters.trial} (docs/how-to/files.md)"
        )
    if not found.claim:
        raise UnsupportedError(f"the files of {trial.name} are gone: {lost(experiment)}")
    body = _pod(experiment, found.claim)
    with _running(cluster, body, namespace, clock) as pod:
        folder = f"{_MOUNT}/{found.path}"
        listed = execute(
            cluster,
            pod,
            _CONTAINER,
            ["sh", "-c", _LISTING, "list", folder],
            namespace=namespace,
            most=_MOST_LIST,
            seconds=_LIST,
        )
        if listed.failure and not listed.data:
            raise NotFound(
                f"trial {trial.name} left no files in {found.path} of claim {found.claim}: {listed.failure}"
            )
        expected = _records(listed.data.decode("utf-8", "surrogateescape"), notify)
        if not expected:
            raise NotFound(f"trial {trial.name} wrote no file")
        with (
            pipe(
                cluster,
                pod,
                _CONTAINER,
                ["tar", "-cf", "-", "-C", folder, "."],
                namespace=namespace,
            ) as stream,
            tarfile.open(
                fileobj=stream, mode="r|", encoding="utf-8", errors="surrogateescape"
            ) as archive,
        ):
            try:
                return receive(_members(archive), expected, target, progress)
            except tarfile.TarError as error:
                raise ClusterError(
                    f"the copy of {trial.name} was interrupted ({error}): copy again"
                ) from error


def _records(text: str, notify: Callable[[str], None]) -> dict[str, FileRecord]:
    found: dict[str, FileRecord] = {}
    for line in text.splitlines():
        if match := _LINE.fullmatch(line):
            found[match[3]] = FileRecord(match[3], int(match[1]), match[2])
        else:
            notify(
                f"a file is left out, because it cannot be read or its name has a line break: {line[:100]!r}"
            )
    if len(found) > MOST_FILES:
        raise UnsupportedError(
            f"the trial has more than {MOST_FILES} files: copy them from the volume yourself"
        )
    return found


def _members(archive: tarfile.TarFile) -> Iterator[tuple[str, IO[bytes]]]:
    while (member := archive.next()) is not None:
        # links, devices and pipes are not copied; the list does not contain them either
        if member.isreg() and (source := archive.extractfile(member)) is not None:
            yield member.name.removeprefix("./"), source
        cast(Any, archive).members.clear()  # tarfile would keep all of them


def _pod_spec(node: Any) -> Object:
    """Return the pod spec of a trial's template, whatever its kind: the first object that has containers."""
    if isinstance(node, Mapping):
        if isinstance(node.get("containers"), list):
            return node
        node = list(node.values())
    for child in node if isinstance(node, list) else ():
        if found := _pod_spec(child):
            return found
    return {}


def _env(container: Object) -> list[Object]:
    return [one for one in container.get("env") or () if isinstance(one, Mapping)]


def _pod(experiment: Experiment, claim: str) -> dict[str, Any]:
    template = experiment.template
    trial = _pod_spec(template.spec)
    container = primary_container(template.spec, template.primary_container)
    user = {
        key: value
        for source in (trial.get("securityContext") or {}, container.get("securityContext") or {})
        for key, value in source.items()
        if key in ("runAsUser", "runAsGroup")
    }
    if not user.get("runAsUser"):
        user = {"runAsUser": 65532, "runAsGroup": 65532}
    group = (trial.get("securityContext") or {}).get("fsGroup")
    selector = trial.get("nodeSelector") or {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{experiment.name[:40]}-files-{secrets.token_hex(4)}",
            "labels": {
                "app.kubernetes.io/name": "gan-tuner",
                "app.kubernetes.io/component": "files",
            },
            "annotations": {"sidecar.istio.io/inject": "false"},
        },
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": _LIFE,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "nodeSelector": {key: selector[key] for key in _NODE_KEYS if key in selector},
            "tolerations": list(trial.get("tolerations") or ()),
            "imagePullSecrets": list(trial.get("imagePullSecrets") or ()),
            "securityContext": user
            | {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
            | ({"fsGroup": group, "fsGroupChangePolicy": "OnRootMismatch"} if group else {}),
            "containers": [
                {
                    "name": _CONTAINER,
                    "image": container.get("image", ""),
                    "imagePullPolicy": container.get("imagePullPolicy", "IfNotPresent"),
                    "command": ["sh", "-c", f"trap 'exit 0' TERM; sleep {_LIFE} & wait"],
                    "resources": {
                        "requests": {"cpu": "50m", "memory": "32Mi"},
                        "limits": {"cpu": "1", "memory": "128Mi"},
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "runAsNonRoot": True,
                        "capabilities": {"drop": ["ALL"]},
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "volumeMounts": [{"name": "files", "mountPath": _MOUNT, "readOnly": True}],
                }
            ],
            "volumes": [
                {"name": "files", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
            ],
        },
    }


@contextmanager
def _running(cluster: Cluster, body: dict[str, Any], namespace: str, clock: Clock) -> Iterator[str]:
    """Run a pod while the block runs, and give its name. Raises Timeout with the reason if it does not start."""
    name = str(cluster.create(PODS, body, namespace=namespace)["metadata"]["name"])
    try:
        until = clock.now() + _START
        while True:
            view = objects.pod(cluster.get(PODS, name, namespace=namespace))
            if _CONTAINER in view.running:
                break
            if view.phase in ("Failed", "Succeeded"):
                raise ClusterError(f"pod {name}, which copies the files, failed: {view.reason}")
            if clock.now() > until:
                raise Timeout(
                    f"pod {name}, which copies the files, did not start in {_START:g} s: {view.reason or view.phase}"
                )
            clock.sleep(0.5)
        yield name
    finally:
        with suppress(ClusterError):
            cluster.delete(PODS, name, namespace=namespace)
