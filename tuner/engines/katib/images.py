"""Image files that running trials wrote, read through their pods.

Only a running container can be asked, and it needs the programs `find` and `cat`. The paths and the
bytes come from the container, so both are bounded; whoever uses the bytes must check that they are
an image.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from tuner.engines.katib import objects
from tuner.errors import ClusterError, Forbidden
from tuner.experiment.model import Experiment
from tuner.katib.facts import TRIAL_LABEL
from tuner.kube import Cluster
from tuner.kube.execute import execute

MOST_PODS = 8  # that are asked: each costs a connection
MOST_FILES = 24  # that are read in one go
MOST_BYTES = 4 << 20  # of a file
MOST_PATHS = 1 << 18  # bytes of a list of files
DEPTH = 4  # directories below a mount, as on this machine
COMMAND_SECONDS, ALL_SECONDS = 10.0, 30.0
# volumes that hold no output of a trial
_NOT_DATA = ("configMap", "secret", "projected", "downwardAPI")

Object = dict[str, Any]


@dataclass
class Files:
    """The bytes of image files.

    Attributes:
        samples: By the names of trials.
        real: Of one image of real data.
        missing: Why an image is missing; "" where the pods gave what they have.
        no_curves: Which curves are missing, and why (tuner.engines.katib.look).
    """

    samples: dict[str, bytes] = field(default_factory=dict)
    real: bytes | None = None
    missing: str = ""
    no_curves: str = ""


@dataclass(frozen=True, slots=True)
class _Mount:
    """A directory of a container that holds data. `shared` volumes may hold the files of other trials too."""

    path: str
    shared: bool


def fetch(
    cluster: Cluster,
    experiment: Experiment,
    pods: Sequence[Object],
    *,
    namespace: str,
    trials: Collection[str],
    samples: Sequence[str],
    real: Sequence[str],
) -> Files:
    """Return the images that running pods can reach.

    Args:
        cluster: Where the pods are.
        experiment: Names the container of the trials.
        pods, namespace: The pods of the Experiment, and where they are.
        trials: The names of the trials whose images are wanted.
        samples: The names that such a file may have, preferred first.
        real: The names of a file with real images; () where none is wanted.
    """
    found, until = Files(), time.monotonic() + ALL_SECONDS
    name = experiment.template.primary_container
    running = [item for item in pods if _runs(item, name)]
    for item in running[:MOST_PODS]:
        pod, own = (
            objects.name_of(item),
            (item["metadata"].get("labels") or {}).get(TRIAL_LABEL, ""),
        )

        def read(argv: Sequence[str], most: int, pod: str = pod) -> bytes:
            seconds = min(COMMAND_SECONDS, until - time.monotonic())
            if seconds <= 0:
                raise ClusterError(f"the images of the trials took longer than {ALL_SECONDS:g} s")
            output = execute(
                cluster, pod, name, argv, namespace=namespace, most=most, seconds=seconds
            )
            if not output.data and output.failure:
                raise ClusterError(f"{argv[0]} fails in pod {pod}: {output.failure}")
            return output.data

        try:
            mounts = list(_mounts(item, name))
            paths = (
                _paths(read(_find(mounts, [*samples, *real]), MOST_PATHS), mounts) if mounts else []
            )
            for trial, path in _of_trials(paths, mounts, own, trials, samples).items():
                if trial not in found.samples and len(found.samples) < MOST_FILES:
                    found.samples[trial] = read(["cat", path], MOST_BYTES)
            if found.real is None and (path := _first(paths, real)):
                found.real = read(["cat", path], MOST_BYTES)
        except ClusterError as error:
            found.missing = str(error)
            if isinstance(error, Forbidden) or time.monotonic() >= until:
                break
    return found


def _runs(item: Object, container: str) -> bool:
    view = objects.pod(item)
    return bool(view.trial) and view.phase == "Running" and container in view.running


def _mounts(item: Object, container: str) -> Iterator[_Mount]:
    """The directories of the container that hold what it writes."""
    spec = item.get("spec", {})
    volumes: Mapping[str, Object] = {str(one.get("name")): one for one in spec.get("volumes") or ()}
    for one in spec.get("containers") or ():
        for mount in (one.get("volumeMounts") or ()) if one.get("name") == container else ():
            volume, path = volumes.get(str(mount.get("name")), {}), str(mount.get("mountPath", ""))
            if (
                path.startswith("/")
                and path != "/"
                and not any(kind in volume for kind in _NOT_DATA)
            ):
                own_part = bool(mount.get("subPath") or mount.get("subPathExpr"))
                yield _Mount(
                    path.rstrip("/"),
                    "emptyDir" not in volume and "ephemeral" not in volume and not own_part,
                )


def _find(mounts: Sequence[_Mount], names: Sequence[str]) -> list[str]:
    """The command that lists the files; its options are those of GNU find and of BusyBox."""
    either = [word for name in names for word in ("-o", "-name", name)][1:]
    size = f"-{MOST_BYTES // 512}"  # in blocks of 512 bytes
    return [
        "find",
        *(mount.path for mount in mounts),
        *("-maxdepth", str(DEPTH + 1), "-type", "f", "-size", size),
        *("(", *either, ")"),
    ]


def _paths(listed: bytes, mounts: Sequence[_Mount]) -> list[PurePosixPath]:
    """The paths of a list that lie in one of the mounts, shortest first."""
    found = (
        PurePosixPath(line)
        for line in listed.decode("utf-8", "replace").splitlines()
        if line.startswith("/")
    )
    inside = {
        path
        for path in found
        if ".." not in path.parts and any(path.is_relative_to(m.path) for m in mounts)
    }
    return sorted(inside, key=lambda path: (len(path.parts), str(path)))


def _of_trials(
    paths: Sequence[PurePosixPath],
    mounts: Sequence[_Mount],
    own: str,
    trials: Collection[str],
    names: Sequence[str],
) -> dict[str, str]:
    """The path of each wanted trial's image.

    A directory with the name of a trial says whose it is. Without one it is the pod's own, unless
    the volume is shared.
    """
    found: dict[str, str] = {}
    for path in sorted(
        paths, key=lambda path: names.index(path.name) if path.name in names else len(names)
    ):
        if path.name not in names:
            continue
        named = [part for part in path.parts[:-1] if part in trials]
        shared = any(mount.shared and path.is_relative_to(mount.path) for mount in mounts)
        trial = named[-1] if named else "" if shared else own
        if trial in trials:
            found.setdefault(trial, str(path))
    return found


def _first(paths: Sequence[PurePosixPath], names: Sequence[str]) -> str:
    return next((str(path) for path in paths if path.name in names), "")
