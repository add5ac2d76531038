"""From a trial template and a point to what one trial runs: argv, environment, working directory, deadline.

Katib's generator.go replaces `${trialParameters.x}` in the template's JSON text; here it is replaced inside each string
of the template, so that a value is data: quotes in it break nothing, and it stays one argument. Then Kubernetes' own
rules for the primary container: `command` and `args` joined, `$(VAR)` expanded from its env, `$$(VAR)` an escape.

No container means no volumes: every emptyDir and PersistentVolumeClaim mount, and the directory of a File collector,
becomes a directory of the trial's own, wherever its path stands in argv, env or workingDir (`Command.inside`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from tuner.errors import CommandError, UnsupportedError
from tuner.manifest import CollectorKind, Experiment
from tuner.space import Value, text

_PLACEHOLDER = re.compile(r"\$\{trialParameters\.([^{}]+)\}")
_META = re.compile(r"\$\{trialSpec\.(Name|Namespace|Kind|APIVersion|Annotations\[(.+)\]|Labels\[(.+)\])\}")
_VARIABLE = re.compile(r"\$(\$|\(([A-Za-z_.-][A-Za-z0-9_.-]*)\))")


@dataclass(frozen=True, slots=True)
class Command:
    """What one trial runs. `mounts` are absolute container paths that the trial has for itself."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = ""  # "" is wherever the client runs
    deadline: float | None = None  # seconds: the Job's activeDeadlineSeconds
    mounts: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """MODULE of `python -m MODULE ...`, "" for any other command."""
        plain = len(self.argv) > 2 and self.argv[1] == "-m"
        return self.argv[2] if plain and re.fullmatch(r"python(3(\.\d+)?)?", PurePosixPath(self.argv[0]).name) else ""

    def inside(self, folder: Path) -> Command:
        """The same command with every mount path replaced by its directory under `folder`."""

        if not self.mounts:
            return self
        # all mounts in one pass: `folder` itself may lie under one of them, as in /tmp
        mounts = _path_pattern(self.mounts)

        def local(text: str) -> str:
            return mounts.sub(lambda found: str(place(folder, found.group())), text)

        env = {name: local(value) for name, value in self.env.items()}
        return replace(self, argv=tuple(map(local, self.argv)), env=env, cwd=local(self.cwd))


def place(folder: Path, mount: str) -> Path:
    """Where the container path `mount` lies for a trial whose own directory is `folder`."""
    return folder / "mounts" / (mount.strip("/").replace("/", "-") or "root")


def build(experiment: Experiment, name: str, parameters: Mapping[str, Value]) -> Command:
    """The command of trial `name` at `parameters`.

    Raises CommandError where the template has no such container or command, UnsupportedError where an environment
    variable can only come from a cluster.
    """
    template = experiment.template
    values = {
        label: _reference(experiment, name, parameters, reference) for label, reference in template.references.items()
    }
    spec = _substituted(template.spec, values)
    container = primary_container(spec, template.primary_container)
    namespace = experiment.namespace or "default"
    fields = {"metadata.name": name, "metadata.namespace": namespace}
    env = _environment(container, fields) | {"KATIB_TRIAL_NAME": name}
    argv = [_expanded(str(part), env) for key in ("command", "args") for part in container.get(key) or ()]
    if not container.get("command"):
        raise CommandError(
            f"container {template.primary_container} has no command, so its image's entry point would run, "
            "and there is no image here: write the command into the trialTemplate"
        )
    return Command(
        argv=tuple(argv),
        env=env,
        cwd=str(container.get("workingDir") or ""),
        deadline=_deadline(spec),
        mounts=tuple(_mounts(spec, container, experiment)),
    )


def primary_container(spec: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The container called `name` in any pod template of `spec`; for a TrainJob, which has none, its trainer."""
    for container in _listed(spec, "containers"):
        if container.get("name") == name:
            return container
    trainer = (spec.get("spec") or {}).get("trainer")
    if spec.get("kind") == "TrainJob" and isinstance(trainer, Mapping):
        return trainer
    known = ", ".join(str(c.get("name")) for c in _listed(spec, "containers")) or "none"
    raise CommandError(f"primaryContainerName {name!r} must be a container of the trialTemplate, found {known}")


def _listed(node: Any, name: str) -> Iterator[Mapping[str, Any]]:
    """The objects of every list called `name` in a template, however deep: kinds differ in where the pod stands."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == name and isinstance(value, list | tuple):
                yield from (item for item in value if isinstance(item, Mapping))
            else:
                yield from _listed(value, name)
    elif isinstance(node, list | tuple):
        for item in node:
            yield from _listed(item, name)


def _reference(experiment: Experiment, name: str, parameters: Mapping[str, Value], reference: str) -> str:
    meta = _META.fullmatch(reference)
    if meta is None:
        if reference not in parameters:
            raise CommandError(f"trialParameters reference {reference!r} must name a search parameter")
        return text(parameters[reference])
    spec = experiment.template.spec
    metadata = spec.get("metadata") or {}
    if meta[2] or meta[3]:
        kind, key = ("annotations", meta[2]) if meta[2] else ("labels", meta[3])
        held = metadata.get(kind) or {}
        if key not in held:
            raise CommandError(f"reference {reference!r} needs {kind} {key!r} in the trialSpec's metadata")
        return str(held[key])
    known = {
        "Name": name,
        "Namespace": experiment.namespace or "default",
        "Kind": str(spec.get("kind", "")),
        "APIVersion": str(spec.get("apiVersion", "")),
    }
    return known[meta[1]]


def _substituted(node: Any, values: Mapping[str, str]) -> Any:
    if isinstance(node, str):
        return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), node)
    if isinstance(node, Mapping):
        return {key: _substituted(value, values) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_substituted(item, values) for item in node]
    return node


def _expanded(value: str, env: Mapping[str, str]) -> str:
    """Kubernetes' expansion (third_party/forked/golang/expansion): unknown variables stay as they are written."""

    def replaced(match: re.Match[str]) -> str:
        return "$" if match[1] == "$" else env.get(match[2], match[0])

    return _VARIABLE.sub(replaced, value)


def _environment(container: Mapping[str, Any], fields: Mapping[str, str]) -> dict[str, str]:
    env: dict[str, str] = {}
    for entry in container.get("env") or ():
        name, source = str(entry["name"]), entry.get("valueFrom")
        if not source:
            env[name] = _expanded(str(entry.get("value") or ""), env)
            continue
        path = (source.get("fieldRef") or {}).get("fieldPath", "")
        kind, reference = next(iter(source.items()))
        if path in fields:
            env[name] = fields[path]
        elif name in os.environ:
            env[name] = os.environ[name]
        elif not (isinstance(reference, Mapping) and reference.get("optional")):
            raise UnsupportedError(
                f"env {name} comes from the cluster ({kind}), which a local run has not: set {name} in this shell"
            )
    return env


def _deadline(spec: Mapping[str, Any]) -> float | None:
    """The shortest activeDeadlineSeconds of the job, its run policy and its pods."""
    found: list[float] = []

    def visit(node: Any) -> None:
        if isinstance(node, Mapping):
            for key, value in node.items():
                if key == "activeDeadlineSeconds" and isinstance(value, int | float) and value > 0:
                    found.append(float(value))
                else:
                    visit(value)
        elif isinstance(node, list | tuple):
            for item in node:
                visit(item)

    visit(spec)
    return min(found, default=None)


def _mounts(spec: Mapping[str, Any], container: Mapping[str, Any], experiment: Experiment) -> Iterator[str]:
    """Mount paths that a trial writes to; a read-only claim holds data that is there already, and stays."""
    volumes = {volume.get("name"): volume for volume in _listed(spec, "volumes")}
    if experiment.collector.kind is CollectorKind.FILE:
        yield collector_mount(experiment.collector.path)
    for mount in container.get("volumeMounts") or ():
        volume = volumes.get(mount.get("name")) or {}
        claim = volume.get("persistentVolumeClaim")
        if "emptyDir" in volume or (claim is not None and not mount.get("readOnly") and not claim.get("readOnly")):
            path = "/" + str(mount["mountPath"]).strip("/")
            if path != "/":
                yield path


def collector_mount(path: str) -> str:
    """The part of a File collector's path that is each trial's own: its directory, or the file where that is `/`."""
    parent = str(PurePosixPath(path).parent)
    return path if parent == "/" else parent


def _path_pattern(paths: Sequence[str]) -> re.Pattern[str]:
    """Any of `paths` whole or as the head of a longer one: /out in `--dir=/out/a`, not in `/layout` or `/output`."""
    longest_first = "|".join(re.escape(path) for path in sorted(paths, key=len, reverse=True))
    return re.compile(rf"(?<![\w./-])(?:{longest_first})(?=/|$|[^\w.-])")
